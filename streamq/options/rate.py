"""Define a rate limit: a maximum number of tasks of a type in any window of time.

Owns its text form. Does not count: the enqueue script does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from streamq.errors import InvalidOption
from streamq.options.checks import Duration, seconds, whole


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Accept at most `count` tasks of a type in any window of `period` seconds."""

    count: int
    period: float

    if TYPE_CHECKING:  # the period may be given in any form of a duration; the field is seconds

        def __init__(self, count: int, period: Duration) -> None: ...

    def __post_init__(self) -> None:
        whole(self.count, "rate_limit: count", least=1, most=1_000_000)
        object.__setattr__(self, "period", seconds(self.period, "rate_limit: period", least=0.001))

    @classmethod
    def parse(cls, value: RateLimit | str | None) -> RateLimit | None:
        """Return the rate limit of "100/1m", "100/s" or a RateLimit."""
        if value is None:
            return None
        if isinstance(value, RateLimit):
            return value
        count, slash, period = str(value).partition("/")
        good = slash and period.strip() and count.isascii() and count.isdigit() and len(count) <= 7
        if not good or not 1 <= int(count) <= 1_000_000:
            raise InvalidOption(
                f"rate_limit={value!r:.80}: not a rate. Write '100/1m' (1 to 1,000,000 tasks in a period)"
            )
        text = period if period[:1].isdigit() else "1" + period
        return cls(int(count), seconds(text, "rate_limit", least=0.001))


def rate_limit(value: object, _name: str) -> RateLimit | None:
    """Return the rate limit of a policy. Raises InvalidOption."""
    return RateLimit.parse(cast("RateLimit | str | None", value))
