"""Makes text from other programs safe to show: on a terminal, in a log line, in printed JSON.

Owns which characters are shown unescaped, and which parts of a URL. Task types, messages, reasons, names and
URLs come from other programs: none may move the cursor, hide other text, change the writing direction or
start a new line. Must not print by itself.
"""

from __future__ import annotations

import re
from typing import Final

_INVISIBLE: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
"""Invisible letters and marks that Python counts as printable."""
_BEYOND: Final = range(0xE0100, 0xE01F0)
"""Variation selectors: invisible, and enough of them to encode a hidden text."""

_LOGIN: Final = re.compile(r"://\S{1,1000}@")
_PASSWORD: Final = re.compile(r"(password(?:=|%3[dD]))[^&\s'\"]+")


def line(text: str) -> str:
    """Return the text as part of one line: control, invisible and line-ending characters are escaped."""
    return text if _plain(text) else "".join(map(_shown, text))


def lines(text: str) -> str:
    """Return the same for a text of several lines, such as a traceback: line feeds and tabs stay."""
    return "\n".join("\t".join(map(line, row.split("\t"))) for row in text.split("\n"))


def below(text: str) -> str:
    """Return the same with every line indented, so that none looks like a line of the program itself."""
    return "\n".join(f"  {row}" if row else "" for row in lines(text).split("\n"))


def json(text: str) -> str:
    """Return printed JSON with the same meaning: unsafe characters in strings are written as \\uXXXX."""
    return "\n".join(row if _plain(row) else "".join(map(_in_json, row)) for row in text.split("\n"))


def masked(text: str) -> str:
    """Return the text without logins in URLs, for messages that repeat user input."""
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
