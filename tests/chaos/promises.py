"""The task types with lanes, unique keys and schedules, and what each of them promises. Pure.

Owns the table that both the handlers and the checker read: what a type asks of streamq is what is checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Until = Literal["done", "started"]
Conflict = Literal["return", "raise", "replace", "reschedule", "after"]
CONFLICTS: Final[dict[Until, tuple[Conflict, ...]]] = {
    "done": ("return", "raise", "replace", "reschedule", "after", "after"),
    "started": ("return", "raise", "replace", "replace", "reschedule"),
}
"""What a call may ask for where its key is held."""
REPLACING: Final = ("replace", "after")
"""A call with these has its own arguments run, if it joins a task."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many starts a second, `burst` of them at once."""

    count: int
    burst: int = 1

    @property
    def interval_ms(self) -> float:
        return 1000 / self.count


@dataclass(frozen=True, slots=True)
class Promise:
    """What holds of a type at every moment of a run.

    running, rate: of the type; lane_running, lane_rate: of each lane. order: one of a lane at a time, in the
    order in which they were accepted; halt: a dead letter shuts its lane. lock: until when a unique key is
    held. every: seconds between the runs of its schedule; overlap: what becomes of a run whose forerunner
    has not ended.
    """

    running: int | None = None
    rate: Rate | None = None
    lane_running: int | None = None
    lane_rate: Rate | None = None
    fair: bool = False
    order: bool = False
    halt: bool = False
    lock: Until | None = None
    every: int = 0
    overlap: Literal["skip", "allow", "queue_one", "cancel"] = "skip"

    @property
    def lanes(self) -> bool:
        return not self.lock and not self.every

    @property
    def at_once(self) -> int | None:
        """The most of a lane, of a key, or of a schedule, that may run at one moment."""
        if self.lock:
            return 1 if self.lock == "done" else None
        if self.every:
            return None if self.overlap in ("allow", "cancel") else 1
        return 1 if self.order else self.lane_running


PROMISES: Final[dict[str, Promise]] = {
    "metered": Promise(running=5, lane_running=2),
    "paced": Promise(rate=Rate(8), lane_rate=Rate(3, burst=2)),
    "shared": Promise(running=4, fair=True),
    "chain": Promise(order=True),
    "halting": Promise(order=True, halt=True),
    "single": Promise(lock="done"),
    "latest": Promise(lock="started"),
    "beat": Promise(every=1, overlap="allow"),
    "lone": Promise(every=1, overlap="skip"),
    "queued": Promise(every=2, overlap="queue_one"),
    "newest": Promise(every=1, overlap="cancel"),
}
DERIVED_KEYS: Final = ("flow:", "after:")
"""How the keys of tasks begin that are nodes of flows, and follow-ups: no producer asked for them."""
DERIVED: Final = (
    "node", "source", "leaf", "brood", "member", "gather", "gathered", "taking_back", "undoing", "child",
)  # fmt: skip
"""The types of these tasks."""
MEMOS: Final = ("one", "two", "three")
"""The steps of a task with steps."""
NEW_RUNS: Final = 2
"""How often a task that goes on does so."""
RECURRING: Final = tuple(name for name, promise in PROMISES.items() if promise.every)
HALTING: Final = tuple(name for name, promise in PROMISES.items() if promise.halt)
WEIGHTS: Final = {
    "metered": 10, "paced": 6, "shared": 8, "chain": 10, "halting": 5, "single": 8, "latest": 6,
    "stepping": 5, "parent": 5, "bulky": 4, "outer": 2, "onward": 3,
}  # fmt: skip
"""How often each is enqueued, beside the plain types, whose weights add up to 100."""
LANES: Final = {"metered": 5, "paced": 3, "shared": 4, "chain": 10, "halting": 6, "single": 5, "latest": 4}
"""How many lanes, or unique keys, its tasks have."""
