"""When a task type is due again and again: `Cron`, `Every`, and the rules of a `Schedule`.

Owns what they may be, and their errors. Reckons no time: that is in `schedules.arithmetic`. Loads cronsim
(the extra `cron`) for who writes a `Cron`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from streamq.errors import InvalidOption, UsageError
from streamq.options.checks import Duration, in_words, moment_ms, seconds, whole

Misfire = Literal["last", "skip", "all"]
Overlap = Literal["skip", "allow", "queue_one", "cancel"]
MISFIRES: Final[tuple[Misfire, ...]] = get_args(Misfire)
OVERLAPS: Final[tuple[Overlap, ...]] = get_args(Overlap)

GRACE: Final = 60.0
"""Seconds by which a run may be late before the rule for misfires decides."""
SHORTEST: Final = 1.0
"""Seconds between two runs at least, and that a run may be late at least."""
_LONGEST_TEXT: Final = 200
_FIELDS: Final = (
    "Write minute 0-59, hour 0-23, day of month 1-31 or L, month 1-12 or JAN-DEC, day of week 0-7 or SUN-SAT"
)
_OF_THE_HOST: Final = ("localtime", "posixrules")
"""Files among the time zones that each host has its own of: daemons on two hosts would disagree."""


def cron_library() -> Any:
    """Return the cronsim module; UsageError says how to get it."""
    try:
        import cronsim  # noqa: PLC0415 - an extra
    except ImportError:
        raise UsageError("Cron needs cronsim: pip install 'streamq[cron]'") from None
    return cronsim


@cache
def zone(name: str) -> tzinfo:
    """Return a time zone by its IANA name. Raises InvalidOption."""
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - most apps have no schedule

    try:
        return ZoneInfo("" if name in _OF_THE_HOST else name)
    except (KeyError, ValueError, OSError, TypeError):  # not there, no name, a folder of names
        raise InvalidOption(
            f"tz={name!r:.80}: there is no such time zone; write an IANA name such as 'Europe/Madrid'. Where "
            "the system has none, pip install tzdata"
        ) from None


@dataclass(frozen=True, slots=True)
class Cron:
    """Due at the times of a cron expression: minute, hour, day of month, month, day of week.

    tz: the IANA name of the time zone in which it is read; UTC unless given. Raises InvalidOption, and
    UsageError without the extra `cron`.
    """

    expression: str
    tz: str = "UTC"

    def __post_init__(self) -> None:
        if not isinstance(self.expression, str) or len(self.expression) > _LONGEST_TEXT:  # type: ignore[redundant-expr]
            raise InvalidOption(f"Cron({self.expression!r:.80}): write the expression as text, '0 3 * * *'")
        fields = self.expression.split()
        if len(fields) != 5:
            raise InvalidOption(
                f"Cron({self.expression!r:.80}): has {len(fields)} fields, not 5: minute, hour, day of "
                "month, month, day of week, as in '0 3 * * *'. For less than a minute use Every"
            )
        if not isinstance(self.tz, str):
            raise InvalidOption(f"tz={self.tz!r:.80}: write the zone's name, such as 'Europe/Madrid'")
        zone(self.tz)
        object.__setattr__(self, "expression", " ".join(fields))
        library = cron_library()
        try:
            next(library.CronSim(self.expression, datetime(2000, 1, 1, tzinfo=UTC)))
        except StopIteration:
            raise InvalidOption(f"Cron({self.expression!r}): is never due, in no year") from None
        except Exception as error:  # noqa: BLE001 - its own error, and what it trips over in odd text
            said = str(error) or "cannot be read"
            raise InvalidOption(f"Cron({self.expression!r:.80}): {said}. {_FIELDS}") from None

    def __str__(self) -> str:
        return f"{self.expression} {self.tz}"


@dataclass(frozen=True, slots=True)
class Every:
    """Due again and again after the same time, whatever the clock on the wall shows: Every("10m").

    The first run is one interval after the schedule was made, or at its `start`. Raises InvalidOption.
    """

    interval: float

    if TYPE_CHECKING:

        def __init__(self, interval: Duration) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "interval", seconds(self.interval, "Every", least=SHORTEST))

    def __str__(self) -> str:
        return f"every {in_words(self.interval)}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a task type is due, and the rules for what goes wrong.

    when: Cron or Every. misfire: what to do with runs that are late by more than `grace` (60 s): "last" makes
    one for all that were missed, "skip" none, "all" each of them, oldest first, at most 100. overlap: what to
    do where the run before has not ended: "skip" this one, "allow" it, "queue_one" behind it, or "cancel" the
    one before. jitter: each run is late by a time of its own, up to this. start, end: nothing is due before
    and after. times: how many runs there are in all. Raises InvalidOption.
    """

    when: Cron | Every
    misfire: Misfire = "last"
    overlap: Overlap = "skip"
    jitter: float = 0.0
    grace: float = GRACE
    start: datetime | None = None
    end: datetime | None = None
    times: int | None = None

    if TYPE_CHECKING:  # a duration may be given in every form; the fields are seconds

        def __init__(
            self,
            when: Cron | Every,
            misfire: Misfire = ...,
            overlap: Overlap = ...,
            jitter: Duration = ...,
            grace: Duration = ...,
            start: datetime | None = ...,
            end: datetime | None = ...,
            times: int | None = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        if not isinstance(self.when, Cron | Every):
            raise InvalidOption(
                f"{self.when!r:.80} is no schedule: write Cron('0 3 * * *', tz='Europe/Madrid') or "
                "Every('10m')"
            )
        _one_of(self.misfire, MISFIRES, "misfire")
        _one_of(self.overlap, OVERLAPS, "overlap")
        object.__setattr__(self, "jitter", seconds(self.jitter, "jitter"))
        object.__setattr__(self, "grace", seconds(self.grace, "grace", least=SHORTEST))
        if isinstance(self.when, Every) and self.jitter > self.when.interval:
            raise InvalidOption(
                f"jitter={self.jitter:g} s: longer than the interval, so that runs would overtake one another"
            )
        if self.times is not None:
            whole(self.times, "times", least=1)
        start, end = _ms(self.start, "start"), _ms(self.end, "end")
        if start is not None and end is not None and end <= start:
            raise InvalidOption(f"end={self.end}: must be later than start={self.start}")

    @property
    def start_ms(self) -> int | None:
        """`start` in ms since the epoch."""
        return _ms(self.start, "start")

    @property
    def end_ms(self) -> int | None:
        """`end` in ms since the epoch."""
        return _ms(self.end, "end")


def _ms(value: datetime | None, name: str) -> int | None:
    return None if value is None else moment_ms(value, name)


def _one_of(value: object, known: tuple[str, ...], name: str) -> None:
    if value not in known:
        raise InvalidOption(f"{name}={value!r:.80}: must be one of {', '.join(known)}")


def schedule(value: object, name: str = "schedule") -> Schedule | None:
    """Return what `@app.task(schedule=...)` was given as a schedule. Raises InvalidOption."""
    if value is None or isinstance(value, Schedule):
        return value
    if not isinstance(value, Cron | Every):
        raise InvalidOption(
            f"{name}={value!r:.80}: write Cron('0 3 * * *', tz='Europe/Madrid') or Every('10m')"
        )
    return Schedule(value)
