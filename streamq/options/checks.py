"""What an option may be: durations, numbers, names, moments. Each check says what it wants and what it got.

Owns the forms of durations and the limits of keys. Knows no option by name but those of several kinds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, get_args

from streamq.errors import InvalidOption
from streamq.model.task import PRIORITIES, Priority

Duration = float | timedelta | str
Executor = Literal["auto", "thread", "process"]
EXECUTORS: Final[tuple[Executor, ...]] = get_args(Executor)
Durability = Literal[
    "master", "aof", "replicas:1", "replicas:2", "replicas:3", "replicas:4", "replicas:5"
]  # fmt: skip
"""What has to have a task before enqueue returns: the master's memory, its append-only file on disk
(fsync), or so many replicas beside it."""

DURABILITIES: Final[tuple[Durability, ...]] = get_args(Durability)
IDEMPOTENCY_WINDOW: Final = 86400.0
LONGEST_WINDOW: Final = 30 * 86400.0
LONGEST_KEY: Final = 200
"""Bytes of an idempotency key at most: it is kept in memory for its whole window."""

_UNITS: Final = {
    word: seconds
    for words, seconds in {
        "ms": 0.001, "s sec secs second seconds": 1.0, "m min mins minute minutes": 60.0,
        "h hr hrs hour hours": 3600.0, "d day days": 86400.0, "w week weeks": 604800.0,
    }.items()
    for word in words.split()
}  # fmt: skip
_NUMBER: Final = r"\d+(?:\.\d*)?|\.\d+"
_UNIT: Final = "|".join(sorted(_UNITS, key=len, reverse=True))
_PLAIN: Final = re.compile(_NUMBER, re.ASCII)
_PART: Final = re.compile(rf"({_NUMBER})\s*({_UNIT})", re.ASCII)
_PARTS: Final = re.compile(rf"(?:({_NUMBER})\s*({_UNIT})\s*)+", re.ASCII)
_LONGEST_TEXT: Final = 64
"""Characters of a duration: looking for the parts of a long row of digits takes time by its square."""
_LONGEST: Final = 100 * 366 * 86400.0


def seconds(value: Duration, name: str, *, least: float = 0.0) -> float:
    """A duration as seconds; InvalidOption names the option, the fault and the forms that are taken."""
    if type(value) is float or type(value) is int:
        result = _number(value)
    elif isinstance(value, timedelta):
        result = value.total_seconds()
    elif isinstance(value, str):
        result = _from_text(value, name)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidOption(
            f"{name}={value!r:.80}: a duration is seconds, a timedelta or text such as '30' or '5m'"
        )
    else:
        result = _number(value)
    if not least <= result <= _LONGEST:  # also refuses nan
        raise InvalidOption(f"{name}={_short(value)}: must be at least {least:g} s and at most 100 years")
    return result


def _number(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf  # a whole number that no float can hold


def _short(value: object) -> str:
    try:
        return repr(value)[:80]
    except ValueError:  # an integer of more digits than Python writes
        return "a huge number"


def _from_text(text: str, name: str) -> float:
    plain = text.strip() if len(text) <= _LONGEST_TEXT else ""
    if _PLAIN.fullmatch(plain):
        return float(plain)
    if not _PARTS.fullmatch(plain):
        raise InvalidOption(
            f"{name}={text!r:.80}: write a duration as '90s', '5m', '1h30m' or '250ms'; '90' is seconds"
        )
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(plain))


MOST: Final = 1_000_000_000
"""No number in an option is greater: it must fit wherever it is stored and reckoned with."""


def whole(value: int, name: str, *, least: int, most: int = MOST) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:  # type: ignore[redundant-expr]
        raise InvalidOption(f"{name}={_short(value)}: must be a whole number of at least {least}")
    if value > most:
        raise InvalidOption(f"{name}: must be a whole number of at most {most:,}")
    return value


def priority(value: str, name: str = "priority") -> Priority:
    for known in PRIORITIES:
        if value == known:
            return known
    raise InvalidOption(f"{name}={value!r:.80}: must be one of {', '.join(PRIORITIES)}")


def durability(value: str, name: str = "durability") -> Durability:
    for known in DURABILITIES:
        if value == known:
            return known
    raise InvalidOption(f"{name}={value!r:.80}: must be 'master', 'aof' or 'replicas:1' to 'replicas:5'")


def key_text(value: str, name: str) -> str:
    """A caller's key: any text that is not empty and not long."""
    if not isinstance(value, str) or not 1 <= len(value.encode("utf-8", "replace")) <= LONGEST_KEY:  # type: ignore[redundant-expr]
        raise InvalidOption(
            f"{name}={value!r:.80}: must be text of 1 to {LONGEST_KEY} bytes, as an order's number; "
            "hash what is longer"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidOption(f"{name}={value!r}: has lone surrogates, it is no UTF-8") from None
    return value


def window_ms(value: Duration, name: str = "idempotency_window") -> int:
    found = seconds(value, name, least=1.0)
    if found > LONGEST_WINDOW:
        raise InvalidOption(f"{name}={value!r}: at most 30 days; each key is kept in memory")
    return round(found * 1000)


def or_none(check: Callable[[Any, str], object]) -> Callable[[Any, str], object]:
    """The check of an option that may be None as well."""
    return lambda value, name: None if value is None else check(value, name)


def exceptions(value: object, name: str) -> tuple[type[BaseException], ...]:
    """Exception classes, one or several."""
    listed: tuple[object, ...] = tuple(value) if isinstance(value, tuple | list) else (value,)
    found = tuple(item for item in listed if isinstance(item, type) and issubclass(item, BaseException))
    if len(found) < len(listed):
        raise InvalidOption(f"{name}={value!r}: must be exception classes")
    return found


def callable_or_none(value: object, name: str) -> object:
    """A wait object of tenacity."""
    if value is not None and not callable(value):
        raise InvalidOption(f"{name}={value!r}: must be a wait object of tenacity, as wait_exponential()")
    return value


def executor(value: str, name: str = "executor") -> Executor:
    for known in EXECUTORS:
        if value == known:
            return known
    raise InvalidOption(f"{name}={value!r}: must be 'auto', 'thread' or 'process'")


def reject_unknown(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise InvalidOption for the first name that is not known, with what to write instead."""
    names = sorted(known)
    for name in given:
        if name not in names:
            from streamq.migration_hints import option_hint  # noqa: PLC0415 - for a slip only

            raise InvalidOption(f"{what} has no option {name!r:.80}: {option_hint(name, names)}")


def moment_ms(value: datetime, name: str) -> int:
    """An aware datetime as ms since the epoch."""
    if not isinstance(value, datetime):
        raise InvalidOption(f"{name}={value!r}: must be a datetime with a time zone")
    if value.utcoffset() is None:
        raise InvalidOption(f"{name}={value!r} has no time zone: write datetime.now(UTC) or .astimezone()")
    if value > datetime.now(UTC) + timedelta(seconds=_LONGEST):
        raise InvalidOption(f"{name}={value!r}: more than 100 years ahead")
    return max(0, round(value.timestamp() * 1000))  # what was due before 1970 is due now
