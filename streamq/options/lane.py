"""Lanes as options: what `@app.task(lane=Lane(...), running=, start_rate=)` and `.options(lane=, cost=)`
take.

Owns their checks, their form in the policy (field `gate`, see `lua/lib/lane_rules.lua`) and how an argument
names a lane. Asks no server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, NoReturn, cast

from streamq.errors import InvalidOption
from streamq.options.checks import LONGEST_KEY, Duration, flag, seconds, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

OnDead = Literal["skip", "halt"]
MOST_COST: Final = 1_000_000
_MOST_STARTS: Final = 1_000_000
NO_LANE: Final = ""
"""The lane of tasks that name none: no limit but that of the type, and no order."""


@dataclass(frozen=True, slots=True)
class StartRate:
    """So many starts in a time, one after the other; `burst` of them may start at once.

    With a burst of 1 no window of time has more than the rate allows; else it may have burst - 1 more.
    """

    count: int
    period: float
    burst: int = 1

    if TYPE_CHECKING:  # the period may be given in any form of a duration; the field is seconds

        def __init__(self, count: int, period: Duration, burst: int = ...) -> None: ...

    def __post_init__(self) -> None:
        whole(self.count, "StartRate: count", least=1, most=_MOST_STARTS)
        object.__setattr__(self, "period", seconds(self.period, "StartRate: period", least=0.001))
        whole(self.burst, "StartRate: burst", least=1, most=MOST_COST)

    @classmethod
    def parse(cls, value: StartRate | str, name: str, burst: int | None = None) -> StartRate:
        """Read "5/s", "100/1m" or a StartRate. burst: instead of its own, a number that was checked."""
        if isinstance(value, StartRate):
            return value if burst is None else cls(value.count, value.period, burst)
        count, slash, period = str(value).partition("/")
        if not slash or not period.strip() or not count.isascii() or not count.isdigit() or len(count) > 7:
            _wrong_rate(value, name)
        if not 1 <= int(count) <= _MOST_STARTS:
            _wrong_rate(value, name)
        text = period if period[:1].isdigit() else "1" + period
        try:
            return cls(int(count), seconds(text, name, least=0.001), 1 if burst is None else burst)
        except InvalidOption:
            _wrong_rate(value, name)

    @property
    def interval_us(self) -> float:
        """Microseconds of one start."""
        return self.period * 1e6 / self.count


def _wrong_rate(value: object, name: str) -> NoReturn:
    raise InvalidOption(
        f"{name}={value!r:.80}: write a rate as '5/s' or '100/1m' (1 to 1,000,000 starts in a time of at "
        "least 1 ms)"
    ) from None


def start_rate(value: object, name: str) -> StartRate:
    """Return the rate of a whole type. Raises InvalidOption."""
    return StartRate.parse(cast("StartRate | str", value), name)


@dataclass(frozen=True, slots=True)
class Lane:
    """All tasks of one type with the same value of an argument: one customer, one order, one tenant.

    argument: which argument's value names the lane; '' where calls say it, with `.options(lane=...)`.
    running: the most of a lane that are ready or running at once. rate, burst: starts in a time, and how many
    of them may come at once. fair, weight: lanes that wait take turns; a lane of weight 2 gets two where
    one of weight 1 gets one. order: one at a time, in the order they were accepted; on_dead: whether the next
    goes on behind a dead letter ("skip"), or waits until that is requeued or purged ("halt").
    """

    argument: str = ""
    running: int | None = None
    rate: StartRate | str | None = None
    burst: int | None = None
    weight: float = 1.0
    fair: bool = False
    order: bool = False
    on_dead: OnDead = "skip"

    def __post_init__(self) -> None:
        if not isinstance(self.argument, str) or (self.argument and not self.argument.isidentifier()):  # type: ignore[redundant-expr]
            raise InvalidOption(
                f"Lane({self.argument!r:.80}): name an argument of the handler, as Lane('customer_id')"
            )
        flag(self.fair, "Lane: fair")
        flag(self.order, "Lane: order")
        if self.running is not None:
            whole(self.running, "Lane: running", least=0)
        if self.burst is not None:
            _burst(self.burst, "Lane: burst")
            if self.rate is None:
                raise InvalidOption("Lane: burst needs a rate, as Lane(..., rate='5/s', burst=10)")
        if self.rate is not None:
            object.__setattr__(self, "rate", StartRate.parse(self.rate, "Lane: rate", self.burst))
        object.__setattr__(self, "weight", check_weight(self.weight, "Lane: weight"))
        if self.weight != 1.0 and not self.fair:
            raise InvalidOption("Lane: weight needs fair=True, as Lane(..., fair=True, weight=2)")
        self._check_order()

    def _check_order(self) -> None:
        if self.on_dead not in ("skip", "halt"):
            raise InvalidOption(f"Lane: on_dead={self.on_dead!r:.80}: must be 'skip' or 'halt'")
        if self.on_dead == "halt" and not self.order:
            raise InvalidOption("Lane: on_dead='halt' needs order=True")
        if self.order and self.running not in (None, 1):
            raise InvalidOption(
                f"Lane: running={self.running} and order=True exclude each other: one at a time"
            )

    @property
    def per_start(self) -> StartRate | None:
        """The rate, as it was read."""
        return self.rate if isinstance(self.rate, StartRate) else None


def lane(value: object, name: str) -> Lane | None:
    """The lanes of a type."""
    if value is not None and not isinstance(value, Lane):
        raise InvalidOption(f"{name}={value!r:.80}: write it as lane=Lane('customer_id', running=2)")
    return value


def _burst(value: object, name: str) -> int:
    """How many starts may come at once."""
    return whole(value, name, least=1, most=MOST_COST)


def check_weight(value: object, name: str) -> float:
    """A share among lanes that wait."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0.001 <= value <= 1e6:
        return float(value)
    raise InvalidOption(f"{name}={value!r:.80}: must be a number of at least 0.001 and at most 1,000,000")


def lane_name(value: object, name: str) -> str:
    """The lane that a call names; '' is the lane of those that name none."""
    if not isinstance(value, str):
        raise InvalidOption(f"{name}={value!r:.80}: must be text, as a customer's number")
    return named(value, name)


def named(value: str, name: str) -> str:
    """A lane's name as it is stored: at most 200 bytes, without a zero byte."""
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raise InvalidOption(
            f"{name}={value!r:.80}: has lone surrogates, which UTF-8 cannot encode. Pass valid text"
        ) from None
    if len(raw) > LONGEST_KEY or b"\0" in raw:
        raise InvalidOption(
            f"{name}={value!r:.80}: a lane's name has at most {LONGEST_KEY} bytes and no zero byte, this one "
            f"has {len(raw)}; hash what is longer"
        )
    return NO_LANE if value == "\x01" else value


def of_argument(arguments: Mapping[str, Any], argument: str, task_type: str) -> str:
    """The lane that a task's arguments name: text as it is, any other value as JSON; None and text without
    a letter are no lane."""
    value = arguments.get(argument)
    if value is None:
        return NO_LANE
    if isinstance(value, str):
        return named(value, f"argument {argument} of {task_type}")
    import orjson  # noqa: PLC0415 - most lanes are named by text

    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    return named(text, f"argument {argument} of {task_type}")


def cost(value: object, name: str) -> int:
    """Return what a task counts for in rates and in its lane's share. Raises InvalidOption."""
    return whole(value, name, least=1, most=MOST_COST)


def gate(running: int | None, rate: StartRate | None, of: Lane | None) -> str:
    """The rules as the policy holds them."""
    lanes = of or Lane()
    per = lanes.per_start
    parts = (
        running, *_rate(rate), lanes.fair or None, lanes.order or None, lanes.on_dead == "halt" or None,
        lanes.running, *_rate(per), None if lanes.weight == 1 else lanes.weight,
    )  # fmt: skip
    return ";".join(map(_part, parts))


class Gate(NamedTuple):
    """The rules as the policy in Redis has them, of any release. limited: of the whole type, by a number or a
    rate; halts: whether a dead letter shuts its lane."""

    limited: bool
    fair: bool
    halts: bool

    @classmethod
    def parse(cls, text: str) -> Gate:
        """Read what `gate` wrote."""
        running, interval, _burst, fair, _order, halts, *_ = (*text.split(";"), *[""] * 6)
        return cls(bool(running or interval), fair == "1", halts == "1")


def limit_of(
    running: int | None, rate: StartRate | str | None, burst: int | None, weight: float | None
) -> str:
    """What an operator sets of one lane, or of the type, as it is stored: see `lua/limit.lua`; '' leaves all
    to the policy. Raises InvalidOption."""
    if running is not None:
        whole(running, "running", least=0)
    if weight is not None:
        check_weight(weight, "weight")
    if burst is not None and _burst(burst, "burst") and rate is None:
        raise InvalidOption("burst needs a rate, as rate='5/s', burst=10")
    per = None if rate is None else StartRate.parse(rate, "rate", burst)
    text = ";".join(map(_part, (running, *_rate(per), weight)))
    return text if text.strip(";") else ""


def _rate(rate: StartRate | None) -> tuple[float | None, int | None]:
    return (None, None) if rate is None else (rate.interval_us, rate.burst)


def _part(value: float | None) -> str:
    return "" if value is None else f"{float(value):.17g}"
