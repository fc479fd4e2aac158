"""Redact payloads, results and the texts of errors: show all, all but some fields, or nothing. Pure.

Owns the redaction. The result is text or JSON, never markup. Messages, tracebacks and results often repeat
the handler's arguments, so the values of redacted fields are masked in them too (`masking`); if these values
are unknown, nothing is shown.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import orjson

from streamq.dashboard.masking import MASK, Values
from streamq.depth import too_deep
from streamq.fingerprint import frame_of, stored_frame
from streamq.payloads.pipeline import opened
from streamq.payloads.reading import decode_error, readable

HIDDEN: Final = MASK
_DEEPEST: Final = 50
_MOST: Final = 65_536
"""Characters of values that are searched; if there are more, the whole text is masked."""
_VISIBLE: Final = ("attempt", "at_ms", "wait_ms", "run_ms", "worker", "error")


@dataclass(frozen=True, slots=True)
class Redaction:
    """fields: names to hide, with wildcards, in any case. hide: show nothing."""

    fields: tuple[str, ...] = ()
    hide: bool = False

    @property
    def complete(self) -> bool:
        """Return whether everything is shown."""
        return not (self.fields or self.hide)

    def value(self, raw: bytes | None) -> object:
        """Return stored bytes as a redacted JSON value."""
        if raw is None:
            return None
        if self.hide:
            return HIDDEN
        if problem := decode_error(raw):
            return problem
        raw = opened(raw)
        if too_deep(raw):
            return self._unread(raw)
        try:
            cleaned = self._cleaned(orjson.loads(raw), 0)
        except ValueError:
            return self._unread(raw)
        # Another field may repeat the value of a hidden one.
        values = self._values(raw) if self.fields else None
        return cleaned if values is None else _without(cleaned, values)

    def _unread(self, raw: bytes) -> str:
        """Return what is truncated, not JSON, or too deep: field names and values cannot be told apart."""
        return HIDDEN if self.fields else raw.decode("utf-8", "backslashreplace")

    def text(self, raw: bytes | None) -> str:
        """Return the same as indented text."""
        value = self.value(raw)
        if value is None and raw is None:
            return ""
        return _text(value)

    def short(self, raw: bytes | None, limit: int = 160) -> str:
        """Return the same on one line, truncated."""
        return "" if raw is None else _cut(self.value(raw), limit)

    def short_result(self, raw: bytes | None, payload: bytes | None, limit: int = 160) -> str:
        """Return a redacted result on one line, truncated."""
        return "" if raw is None else _cut(self.result(raw, payload), limit)

    def failure(self, failure: dict[str, object], payload: bytes | None) -> dict[str, object]:
        """Return a failed attempt with the place of its exception, and with redacted message and traceback.
        payload: the whole payload; None if unknown."""
        traceback = str(failure.get("traceback", ""))
        where = stored_frame(failure) if self.hide else frame_of(failure)
        found = {"place": str(where) if where else ""}
        if self.complete:
            return {**failure, **found}
        if not self.hide:
            found["place"] = self.error_text(found["place"], payload)
        shown = {name: value for name, value in failure.items() if name in _VISIBLE}
        texts = {"message": str(failure.get("message", "")), "traceback": traceback}
        return {**shown, **{name: self.error_text(text, payload) for name, text in texts.items()}, **found}

    def error_text(self, text: str, payload: bytes | None) -> str:
        """Return a redacted text of an error. payload: the whole payload; None if unknown."""
        if self.complete or not text:
            return text
        values = None if self.hide else self._values(payload)
        return HIDDEN if values is None else values.masked(text)

    def result(self, raw: bytes | None, payload: bytes | None) -> object:
        """Return a redacted result. It may repeat the values of redacted fields under any name, so if the
        payload is unknown only null, true or false is shown."""
        value = self.value(raw)
        if self.complete or value is None or isinstance(value, bool):
            return value
        values = None if self.hide else self._values(payload)
        return HIDDEN if values is None else _without(value, values)

    def result_text(self, raw: bytes | None, payload: bytes | None) -> str:
        """Return the same as indented text."""
        return "" if raw is None else _text(self.result(raw, payload))

    def _values(self, payload: bytes | None) -> Values | None:
        """Return the values of hidden fields; None if they are unknown."""
        return _values(self, payload or b"")

    def secrets(self, payload: bytes) -> set[str]:
        """Return the values of hidden fields, and the names below them. Raise ValueError or RecursionError if
        they cannot be found."""
        return set(self._secrets(orjson.loads(readable(payload) or b""), 0, secret=False))

    def _secrets(self, value: object, depth: int, *, secret: bool) -> Iterator[str]:
        if depth > _DEEPEST:
            raise RecursionError
        if isinstance(value, dict):
            for name, inner in value.items():
                if secret:
                    yield str(name)
                yield from self._secrets(inner, depth + 1, secret=secret or self._secret(name))
        elif isinstance(value, list):
            for inner in value:
                yield from self._secrets(inner, depth + 1, secret=secret)
        elif secret and value is not None:
            yield str(value)

    def _cleaned(self, value: object, depth: int) -> object:
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


@lru_cache(maxsize=16)  # the message, traceback and place of each attempt need the same
def _values(redaction: Redaction, payload: bytes) -> Values | None:
    try:
        found = redaction.secrets(payload)
    except (ValueError, RecursionError):
        return None
    return Values(found) if sum(map(len, found)) <= _MOST else None


def _without(value: object, values: Values) -> object:
    """Return a JSON value with these values masked in its names, texts and numbers."""
    if isinstance(value, dict):
        return {values.masked(name): _without(inner, values) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without(inner, values) for inner in value]
    if value is None or isinstance(value, bool):
        return value
    masked = values.masked(str(value))
    return value if masked == str(value) else masked


def _cut(value: object, limit: int) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= limit else text[:limit] + "…"


def _text(value: object) -> str:
    return HIDDEN if isinstance(value, str) and value == HIDDEN else _pretty(value)


def _pretty(value: object) -> str:
    if isinstance(value, str) and not value.isprintable():
        return value
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
