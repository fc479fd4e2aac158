"""Batches as an option: what `@app.task(batch=Batch(...))` takes.

Owns their checks. Gathers nothing: workers do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from streamq.errors import InvalidOption
from streamq.options.checks import seconds, size, whole

if TYPE_CHECKING:
    from streamq.options.checks import Duration

MOST: Final = 1_000
_LONGEST: Final = 3_600.0
_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Batch:
    """One call of the handler for many tasks, which a worker gathers.

    size: the most tasks of a call. linger: how long the first may wait for others (seconds, timedelta, text).
    by: tasks of one call have the same value of this field of their items. max_bytes: the most bytes of
    their arguments, which are more only if a single task has more.
    """

    size: int
    linger: Duration = 1.0
    by: str | None = None
    max_bytes: int | str = _BYTES

    def __post_init__(self) -> None:
        whole(self.size, "Batch: size", least=1, most=MOST)
        linger = seconds(self.linger, "Batch: linger")
        if linger > _LONGEST:
            raise InvalidOption(f"Batch: linger={self.linger!r:.80}: must be at most an hour")
        if self.by is not None and (not isinstance(self.by, str) or not self.by.isidentifier()):  # type: ignore[redundant-expr]
            raise InvalidOption(f"Batch: by={self.by!r:.80}: name a field of the items, as by='customer_id'")
        object.__setattr__(self, "linger", linger)
        object.__setattr__(self, "max_bytes", size(self.max_bytes, "Batch: max_bytes"))

    @property
    def linger_seconds(self) -> float:
        """Return the linger in seconds."""
        return seconds(self.linger, "Batch: linger")

    @property
    def bytes(self) -> int:
        """Return the most bytes of a call."""
        return size(self.max_bytes, "Batch: max_bytes")


def batch(value: object, name: str) -> Any:
    """Return a Batch. Raises InvalidOption."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Batch(value)
    if not isinstance(value, Batch):
        raise InvalidOption(f"{name}={value!r:.80}: not a batch. Pass Batch(100, linger='2s')")
    return value
