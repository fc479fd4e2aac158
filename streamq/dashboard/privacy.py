"""What is shown of payloads and results: all, all but some fields, or nothing. Pure.

Owns the redaction. What comes out is text or JSON, never markup.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Any, Final

import orjson

HIDDEN: Final = "•••"
_DEEPEST: Final = 50


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


def _pretty(value: Any) -> str:
    if isinstance(value, str) and not value.isprintable():
        return value
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
