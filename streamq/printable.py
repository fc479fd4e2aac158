"""Make text that somebody else wrote safe to show: on a terminal, in a log line, in JSON that is printed.

Owns which characters are shown as they are, and what of a URL is. Task types, messages, reasons, names and
URLs come from other programs: none may move the cursor, hide what follows, turn the direction of writing
or begin a new line.
"""

from __future__ import annotations

import re
from typing import Final

_INVISIBLE: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
"""Letters and marks that nobody can see: Python counts them as printable."""
_BEYOND: Final = range(0xE0100, 0xE01F0)
"""Variation selectors: invisible, and enough of them to hide a text."""

_LOGIN: Final = re.compile(r"://\S{1,1000}@")
_PASSWORD: Final = re.compile(r"(password(?:=|%3[dD]))[^&\s'\"]+")


def line(text: str) -> str:
    """Return the text as part of one line: what steers a terminal, is invisible or ends a line is escaped."""
    return text if _plain(text) else "".join(map(_shown, text))


def lines(text: str) -> str:
    """Return the same for a text of several lines, as a traceback: line feeds and tabs stay."""
    return "\n".join("\t".join(map(line, row.split("\t"))) for row in text.split("\n"))


def below(text: str) -> str:
    """Return the same with every line indented, so that none looks like a line of who shows it."""
    return "\n".join(f"  {row}" if row else "" for row in lines(text).split("\n"))


def json(text: str) -> str:
    """Return printed JSON with the same meaning: in strings, what cannot be shown is written as \\uXXXX."""
    return "\n".join(row if _plain(row) else "".join(map(_in_json, row)) for row in text.split("\n"))


def masked(text: str) -> str:
    """Return the text without logins in URLs, for messages that repeat what was typed."""
    return _PASSWORD.sub(r"\1***", _LOGIN.sub("://***@", text))


def _plain(text: str) -> bool:
    return text.isprintable() and (text.isascii() or not any(map(_hidden, text)))


def _hidden(letter: str) -> bool:
    return letter in _INVISIBLE or ord(letter) in _BEYOND


def _shown(letter: str) -> str:
    if letter.isprintable() and not _hidden(letter):
        return letter
    return letter.encode("unicode_escape", "surrogatepass").decode()


def _in_json(letter: str) -> str:
    if letter.isprintable() and not _hidden(letter):
        return letter
    units = letter.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[n : n + 4]}" for n in range(0, len(units), 4))
