"""What a schedule is, as it is stored: its times and rules, and the task that each run is.

Owns the JSON of a definition and its fingerprint. What somebody else wrote there raises DecodeError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, cast

import orjson

from streamq.depth import too_deep
from streamq.errors import DecodeError, UsageError
from streamq.model.task import LETTER, TYPE_PATTERN
from streamq.options.schedule import Cron, Every, Misfire, Overlap, Schedule

_LETTERS: Final = tuple(LETTER.values())
_MOST_FIELDS: Final = 20
REASON: Final = "schedule"
"""What the DecodeErrors of damaged rows give as their reason."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A schedule with the task that each run is. letter: of its priority. fields: of its envelope, beside
    payload and run. joins: what a run takes part in, as `lua/tick_rich.lua` reads it, '' for nothing. home:
    the key whose shard it is in, its name if empty. fingerprint: tells it from others of its name."""

    schedule: Schedule
    type: str
    letter: str = "n"
    fields: tuple[tuple[str, str], ...] = ()
    fingerprint: str = ""
    joins: str = ""
    home: str = ""

    @property
    def parts(self) -> dict[str, Any]:
        """What a run takes part in, by name."""
        found: Any = orjson.loads(self.joins or "{}")
        return found if isinstance(found, dict) else {}

    @property
    def has_key(self) -> bool:
        """Whether a run has a unique key."""
        return bool(self.parts.get("unique") or self.parts.get("throttle"))

    def stored(self) -> bytes:
        """Return it as JSON."""
        return orjson.dumps({**_plain(self), "print": self.fingerprint})


def defined(
    schedule: Schedule,
    task_type: str,
    letter: str,
    fields: tuple[tuple[str, str], ...],
    payload: bytes,
    joins: str = "",
    home: str = "",
) -> Definition:
    """Return a definition with its fingerprint, which the payload is part of."""
    found = Definition(schedule, task_type, letter, fields, joins=joins, home=home)
    raw = orjson.dumps(_plain(found), option=orjson.OPT_SORT_KEYS) + payload
    return replace(found, fingerprint=blake2b(raw, digest_size=8).hexdigest())


def _plain(one: Definition) -> dict[str, Any]:
    schedule, when = one.schedule, one.schedule.when
    if isinstance(when, Cron):
        told: dict[str, Any] = {"cron": when.expression, "tz": when.tz}
    else:
        told = {"every_ms": round(when.interval * 1000)}
    more = {
        "start_ms": schedule.start_ms, "end_ms": schedule.end_ms, "times": schedule.times,
        "jitter_ms": round(schedule.jitter * 1000) or None,
        "joins": one.parts or None, "home": one.home or None,
    }  # fmt: skip
    # A release that would make runs without their lock and lane cannot read the letter, and leaves the row.
    letter = f"{one.letter}*" if one.joins else one.letter
    return {
        **told, "type": one.type, "letter": letter, "fields": [list(pair) for pair in one.fields],
        "misfire": schedule.misfire, "overlap": schedule.overlap, "grace_ms": round(schedule.grace * 1000),
        **{name: value for name, value in more.items() if value is not None},
    }  # fmt: skip


@lru_cache(maxsize=4096)  # a daemon reads the same ones again and again
def read(raw: bytes | None) -> Definition:
    """Return a stored definition. Raises DecodeError; UsageError where it is a Cron and cronsim is
    missing."""
    try:
        return _read(orjson.loads(b"" if raw is None or too_deep(raw) else raw))
    except UsageError as error:
        if not isinstance(error, ValueError):  # cronsim is missing, which is no fault of what is stored
            raise
        raise DecodeError(f"the stored schedule is damaged: {error}", reason=REASON) from None
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise DecodeError(f"the stored schedule is damaged: {error!r:.200}", reason=REASON) from None


def _read(told: Mapping[str, Any]) -> Definition:
    task_type, letter = told["type"], str(told["letter"]).removesuffix("*")
    if not isinstance(task_type, str) or not TYPE_PATTERN.fullmatch(task_type) or letter not in _LETTERS:
        raise ValueError("type and priority of its task")
    fields = tuple((str(name), str(value)) for name, value in told["fields"])
    if len(fields) > _MOST_FIELDS:
        raise ValueError("too many fields")
    schedule = Schedule(
        _when(told),
        cast("Misfire", told["misfire"]),
        cast("Overlap", told["overlap"]),
        jitter=_whole(told, "jitter_ms") / 1000,
        grace=_whole(told, "grace_ms") / 1000,
        start=_moment(told, "start_ms"),
        end=_moment(told, "end_ms"),
        times=told.get("times"),
    )
    joins, home = _joins(told.get("joins")), told.get("home", "")
    if not isinstance(home, str):
        raise TypeError("home")
    return Definition(schedule, task_type, letter, fields, str(told.get("print", "")), joins, home)


def _joins(found: Any) -> str:
    """Return what a run takes part in as text again. Raises ValueError."""
    if found is None:
        return ""
    if not isinstance(found, dict):
        raise TypeError("joins")
    throttle, delay = found.get("throttle"), found.get("delay_ms", 0)
    sound = isinstance(delay, int) and 0 <= delay < 10**13
    if throttle is not None:
        sound = sound and bytes.fromhex(throttle["key"]) != b"" and 0 < int(throttle["ms"]) < 10**13
    if not sound:
        raise ValueError("joins")
    return orjson.dumps(found).decode()


def _when(told: Mapping[str, Any]) -> Cron | Every:
    if "cron" in told:
        return Cron(told["cron"], tz=told["tz"])
    return Every(_whole(told, "every_ms") / 1000)


def _whole(told: Mapping[str, Any], name: str) -> int:
    found = told.get(name, 0)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 10**13:
        raise ValueError(name)
    return found


def _moment(told: Mapping[str, Any], name: str) -> datetime | None:
    return datetime.fromtimestamp(_whole(told, name) / 1000, UTC) if name in told else None
