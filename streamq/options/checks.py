"""Check single option values: durations, numbers, names, times. Each error states the value and what is
allowed.

Owns the syntax of durations and the limits of keys. Does not know which options exist.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeVar, get_args

from streamq.errors import InvalidOption
from streamq.model.task import NAME_PATTERN, PRIORITIES, Priority

T = TypeVar("T")
Duration = float | timedelta | str
Check = Callable[[object, str], object]
"""Maps a given value and the option's name to the stored value; raises InvalidOption."""
Executor = Literal["auto", "thread", "process"]
EXECUTORS: Final[tuple[Executor, ...]] = get_args(Executor)
Extra = Literal["refuse", "ignore"]
EXTRAS: Final[tuple[Extra, ...]] = get_args(Extra)
LogLevel = Literal["debug", "info", "warning", "error"]
LOG_LEVELS: Final[tuple[LogLevel, ...]] = get_args(LogLevel)
Durability = Literal[
    "master", "aof", "replicas:1", "replicas:2", "replicas:3", "replicas:4", "replicas:5"
]  # fmt: skip
"""What must hold a task before enqueue returns: the master's memory, its append-only file on disk (fsynced),
or this many replicas besides the master."""

DURABILITIES: Final[tuple[Durability, ...]] = get_args(Durability)
IDEMPOTENCY_WINDOW: Final = 86400.0
LONGEST_WINDOW: Final = 30 * 86400.0
LONGEST_KEY: Final = 200
"""Maximum bytes of an idempotency key: it is kept in memory for its whole window."""

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
"""Maximum characters of a duration: matching a long run of digits takes quadratic time."""
_LONGEST: Final = 100 * 366 * 86400.0


def in_words(seconds: float) -> str:
    """Return seconds in the largest unit that divides them: 30 s, 5 min, 1 d."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:g} s"


def seconds(value: object, name: str, *, least: float = 0.0) -> float:
    """Return a duration as seconds. InvalidOption names the option, the fault and the accepted forms."""
    if type(value) is float or type(value) is int:
        result = _number(value)
    elif isinstance(value, timedelta):
        result = value.total_seconds()
    elif isinstance(value, str):
        result = _from_text(value, name)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidOption(
            f"{name}={value!r:.80}: not a duration. Pass seconds, a timedelta or text such as '30' or '5m'"
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
        return math.inf  # a whole number beyond the range of float


def _short(value: object) -> str:
    try:
        return repr(value)[:80]
    except ValueError:  # an integer with more digits than Python converts
        return "a huge number"


def _from_text(text: str, name: str) -> float:
    plain = text.strip() if len(text) <= _LONGEST_TEXT else ""
    if _PLAIN.fullmatch(plain):
        return float(plain)
    if not _PARTS.fullmatch(plain):
        raise InvalidOption(
            f"{name}={text!r:.80}: not a duration. Write '90s', '5m', '1h30m' or '250ms'; '90' is seconds"
        )
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(plain))


_SIZES: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?(?:([kmg])i?b?|b)?", re.IGNORECASE)


def size(value: object, name: str) -> int:
    """Return a size as bytes; KB, MB and GB are powers of 1024."""
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= _LONGEST_TEXT else None
    if found is not None:
        value = round(float(found[1]) * _SIZES[(found[2] or "").lower()])
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidOption(
            f"{name}={_short(value)}: not a size. Write '512MB' or '1GB', or a number of bytes"
        )
    return value


MOST: Final = 1_000_000_000
"""Maximum of every number in an option: it must fit wherever it is stored or computed with."""


def whole(value: object, name: str, *, least: int, most: int = MOST) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidOption(f"{name}={_short(value)}: must be a whole number of at least {least}")
    if value > most:
        raise InvalidOption(f"{name}={_short(value)}: must be a whole number of at most {most:,}")
    return value


def _one_of(known: Iterable[T], value: object, name: str, words: str) -> T:
    """Return a value that is known, as the known one. words: those, for the error."""
    for one in known:
        if value == one:
            return one
    raise InvalidOption(f"{name}={value!r:.80}: must be {words}")


def priority(value: object, name: str = "priority") -> Priority:
    return _one_of(PRIORITIES, value, name, "one of high, normal, low")


def durability(value: object, name: str = "durability") -> Durability:
    return _one_of(DURABILITIES, value, name, "'master', 'aof' or 'replicas:1' to 'replicas:5'")


def flag(value: object, name: str) -> bool:
    """Return True or False as they are. Raises InvalidOption for anything else."""
    if not isinstance(value, bool):
        raise InvalidOption(f"{name}={_short(value)}: must be True or False")
    return value


def extra(value: object, name: str = "extra") -> Extra:
    """Return what becomes of unknown arguments. Raises InvalidOption."""
    return _one_of(EXTRAS, value, name, "one of refuse, ignore")


def names(value: object, name: str) -> tuple[str, ...]:
    """Return names of task types, each once. Raises InvalidOption."""
    if not isinstance(value, list | tuple) or not all(
        isinstance(one, str) and NAME_PATTERN.fullmatch(one) for one in value
    ):
        raise InvalidOption(
            f"{name}={value!r:.80}: must be a list of task types: letters, digits, _ - . (at most 100)"
        )
    return tuple(dict.fromkeys(value))


def key_text(value: object, name: str) -> str:
    """Return a caller's key: text that is neither empty nor too long."""
    if not isinstance(value, str) or not 1 <= len(value.encode("utf-8", "replace")) <= LONGEST_KEY:
        raise InvalidOption(
            f"{name}={value!r:.80}: must be text of 1 to {LONGEST_KEY} bytes, such as an order number. "
            "Hash longer values"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidOption(
            f"{name}={value!r}: has lone surrogates, which UTF-8 cannot encode. Pass valid text"
        ) from None
    return value


def window_ms(value: object, name: str = "idempotency_window") -> int:
    found = seconds(value, name, least=1.0)
    if found > LONGEST_WINDOW:
        raise InvalidOption(f"{name}={value!r}: must be at most 30 days, because each key is kept in memory")
    return round(found * 1000)


def or_none(check: Check) -> Check:
    """Return the check for an option that may also be None."""
    return lambda value, name: None if value is None else check(value, name)


def exceptions(value: object, name: str) -> tuple[type[BaseException], ...]:
    """Return one or several exception classes as a tuple."""
    listed: tuple[object, ...] = tuple(value) if isinstance(value, tuple | list) else (value,)
    found = tuple(item for item in listed if isinstance(item, type) and issubclass(item, BaseException))
    if len(found) < len(listed):
        raise InvalidOption(
            f"{name}={value!r}: must be exception classes, such as OSError or (OSError, ValueError)"
        )
    return found


def callable_or_none(value: object, name: str) -> object:
    """Return a tenacity wait object, or None."""
    if value is not None and not callable(value):
        raise InvalidOption(f"{name}={value!r}: must be a tenacity wait object, such as wait_exponential()")
    return value


def executor(value: object, name: str = "executor") -> Executor:
    return _one_of(EXECUTORS, value, name, "'auto', 'thread' or 'process'")


def log_level(value: object, name: str = "logs") -> LogLevel:
    return _one_of(LOG_LEVELS, value, name, "None, 'debug', 'info', 'warning' or 'error'")


def reject_unknown(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise InvalidOption for the first unknown name, with a suggestion."""
    names = sorted(known)
    for name in given:
        if name not in names:
            from streamq.migration_hints import option_hint  # noqa: PLC0415 - for a slip only

            raise InvalidOption(f"{what} has no option {name!r:.80}: {option_hint(name, names)}")


def moment_ms(value: object, name: str) -> int:
    """Return an aware datetime as ms since the epoch."""
    if not isinstance(value, datetime):
        raise InvalidOption(
            f"{name}={value!r}: must be a datetime with a time zone, such as datetime.now(UTC)"
        )
    if value.utcoffset() is None:
        raise InvalidOption(f"{name}={value!r} has no time zone: use datetime.now(UTC) or .astimezone()")
    if value > datetime.now(UTC) + timedelta(seconds=_LONGEST):
        raise InvalidOption(f"{name}={value!r}: must be at most 100 years ahead")
    return max(0, round(value.timestamp() * 1000))  # a time before 1970 is due now
