"""What is shown of payloads, results and the texts of errors: all, all but some fields, or nothing. Pure.

Owns the redaction. What comes out is text or JSON, never markup. An exception's message often repeats what
its handler was given, so it is treated as the payload is.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from streamq.fingerprint import place

HIDDEN: Final = "•••"
_DEEPEST: Final = 50
_PIECE: Final = 8
"""Characters of a value that are masked wherever they occur together: a text may hold only a part of it."""
_SHORT: Final = 4
"""A value shorter than that is masked as a word only: it would be found in half of all words."""
_MOST: Final = 65_536
"""Characters of values that are looked for; with more of them the whole text is masked."""
_TOLD: Final = ("attempt", "at_ms", "wait_ms", "run_ms", "worker", "error")


@dataclass(frozen=True, slots=True)
class Privacy:
    """fields: names that are not shown, with wildcards, whatever their case. hide: show nothing."""

    fields: tuple[str, ...] = ()
    hide: bool = False

    @property
    def complete(self) -> bool:
        """Whether everything is shown."""
        return not (self.fields or self.hide)

    def value(self, raw: bytes | None) -> Any:
        """Stored bytes as what JSON makes of them, without what is not to be shown."""
        if raw is None:
            return None
        if self.hide:
            return HIDDEN
        try:
            return self._cleaned(orjson.loads(raw), 0)
        except ValueError:
            # Cut, or no JSON: a field's name cannot be told from its value.
            return HIDDEN if self.fields else raw.decode("utf-8", "backslashreplace")

    def text(self, raw: bytes | None) -> str:
        """The same as text for people, indented."""
        value = self.value(raw)
        if value is None and raw is None:
            return ""
        return value if isinstance(value, str) and value == HIDDEN else _pretty(value)

    def short(self, raw: bytes | None, limit: int = 160) -> str:
        """The same on one line, cut."""
        if raw is None:
            return ""
        value = self.value(raw)
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        return text if len(text) <= limit else text[:limit] + "…"

    def failure(self, told: dict[str, Any], payload: bytes | None) -> dict[str, Any]:
        """A failed attempt of a task, with the place of its exception, and with message and traceback as far
        as they are to be shown. payload: all of it; None where it is not known."""
        traceback = str(told.get("traceback", ""))
        where = place(traceback)
        found = {"place": str(where) if where else ""}
        if self.complete:
            return {**told, **found}
        if not self.hide:
            found["place"] = self.error_text(found["place"], payload)
        shown = {name: value for name, value in told.items() if name in _TOLD}
        texts = {"message": str(told.get("message", "")), "traceback": traceback}
        return {**shown, **{name: self.error_text(text, payload) for name, text in texts.items()}, **found}

    def error_text(self, text: str, payload: bytes | None) -> str:
        """A message or traceback without what is not to be shown. Only text that repeats a value as it is, or
        a part of it, can be recognised: not a hash of it, say."""
        if self.complete or not text:
            return text
        values = None if self.hide else self._values(payload)
        if values is None or sum(map(len, values)) > _MOST:
            return HIDDEN
        for value in sorted(values, key=len, reverse=True):
            text = _masked(text, value)
        return text

    def _values(self, payload: bytes | None) -> set[str] | None:
        """What fields that are not shown hold, in each way it is written; None where nobody can tell."""
        try:
            found = set(self._secrets(orjson.loads(payload or b""), 0, secret=False))
        except (ValueError, RecursionError):
            return None
        return {way for value in found for way in (value, repr(value)[1:-1], _escaped(value)) if way}

    def _secrets(self, value: Any, depth: int, *, secret: bool) -> Iterator[str]:
        if depth > _DEEPEST:
            raise RecursionError
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from self._secrets(inner, depth + 1, secret=secret or self._secret(name))
        elif isinstance(value, list):
            for inner in value:
                yield from self._secrets(inner, depth + 1, secret=secret)
        elif secret and value is not None and not isinstance(value, bool):
            yield str(value)

    def _cleaned(self, value: Any, depth: int) -> Any:
        if not self.fields:
            return value
        if depth > _DEEPEST:
            return HIDDEN
        if isinstance(value, dict):
            return {k: HIDDEN if self._secret(k) else self._cleaned(v, depth + 1) for k, v in value.items()}
        if isinstance(value, list):
            return [self._cleaned(item, depth + 1) for item in value]
        return value

    def _secret(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for pattern in self.fields)


def _escaped(value: str) -> str:
    return orjson.dumps(value).decode()[1:-1]


def _masked(text: str, value: str) -> str:
    """The text without this value, and without parts of it: messages are cut, and some cut what they show."""
    if len(value) < _SHORT:
        return re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", HIDDEN, text)
    if len(value) < _PIECE:
        return text.replace(value, HIDDEN)
    pieces = {text[n : n + _PIECE] for n in range(len(text) - _PIECE + 1)}
    pieces &= {value[n : n + _PIECE] for n in range(len(value) - _PIECE + 1)}
    return _without(text, pieces) if pieces else text


def _without(text: str, pieces: set[str]) -> str:
    parts, end = list[str](), 0
    for n in range(len(text) - _PIECE + 1):
        if text[n : n + _PIECE] in pieces:
            if n > end or not parts:
                parts.append(text[end:n])
            end = n + _PIECE
    return HIDDEN.join([*parts, text[end:]])


def _pretty(value: Any) -> str:
    if isinstance(value, str) and not value.isprintable():
        return value
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
