"""What the model knows of one task type: its tasks, streams, group and counters.

Pure: knows no Redis and no Hypothesis. Ids of new entries are the server's to give: `fresh` lists the
tasks that wait for theirs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from streamq import envelope

LEASE = 1_000_000
"""Ms. Real time passes as well while an example runs; next to this it is nothing."""
LETTERS = "hnls"


def listed(failures: bytes) -> int:
    """How many errors a history tells of."""
    return len(envelope.failures(failures))


def order(place: str) -> tuple[int, int]:
    """Where a place stands in its stream or schedule."""
    ms, _, number = place[1:].partition("-")
    return int(ms), int(number)


@dataclass
class Task:
    """One task. `readable`: its entry has a payload; `kept`: its end is still remembered."""

    local: str
    payload: bytes
    priority: str
    state: str
    place: str = ""
    attempts: int = 0
    lost: int = 0
    watched: bool = False
    failures: int = 0
    expires: int | None = None
    enqueued: int | None = None
    indexed: bool = False
    readable: bool = True
    result: bytes | None = None
    when: int = 0
    kept: bool = True
    lock: str = ""
    until_started: bool = False

    @property
    def failed(self) -> bool:
        """Whether its entry counts attempts that failed."""
        return self.attempts > 0


@dataclass
class Pending:
    """A delivery as the group knows it. `since`: when its lease was last renewed."""

    consumer: str
    since: int
    local: str
    deleted: bool = False


@dataclass
class Policy:
    """What the type registers."""

    max_lost: int = 3
    rate: tuple[int, int] | None = None
    backlog: int | None = None

    @property
    def most_lost(self) -> int:
        """Lost deliveries in a row after which a task is dead whatever it did."""
        return 1 if self.max_lost == 1 else 3 * self.max_lost

    def stored(self) -> dict[str, str]:
        found = {"lease_ms": str(LEASE), "max_lost": str(self.max_lost)}
        if self.rate:
            found |= {"rate_limit": str(self.rate[0]), "rate_period_ms": str(self.rate[1])}
        if self.backlog:
            found["max_backlog"] = str(self.backlog)
        return found


@dataclass
class Recurring:
    """The schedule of the type, as `streamq.schedules.state.State`."""

    revision: int = 1
    next: int = 0
    last: int = 0
    run: str = ""
    runs: int = 0
    waiting: int | None = None
    skipped: Counter[str] = field(default_factory=Counter[str])


@dataclass
class Books:
    """The type. Times are ms of the clock that the scripts read."""

    policy: Policy
    now: int = 1_800_000_000_000
    tasks: dict[str, Task] = field(default_factory=dict[str, Task])
    streams: dict[str, dict[str, str]] = field(default_factory=lambda: {letter: {} for letter in LETTERS})
    groups: set[str] = field(default_factory=lambda: set(LETTERS))
    last: dict[str, tuple[int, int]] = field(default_factory=lambda: dict.fromkeys(LETTERS, (0, 0)))
    pending: dict[str, Pending] = field(default_factory=dict[str, Pending])
    cancels: set[str] = field(default_factory=set[str])
    expiring: dict[str, int] = field(default_factory=dict[str, int])
    waiters: dict[str, int] = field(default_factory=dict[str, int])
    counters: Counter[str] = field(default_factory=Counter[str])
    rate_log: list[int] = field(default_factory=list[int])
    beats: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """Of each worker: when it last gave a sign of life, and the lease it renews under."""
    recurring: Recurring = field(default_factory=Recurring)
    unique: dict[str, str] = field(default_factory=dict[str, str])
    """The local id of the holder of each unique key's lock."""
    after: dict[str, str] = field(default_factory=dict[str, str])
    """The local id of the task that follows the holder."""
    throttled: dict[str, str] = field(default_factory=dict[str, str])
    """The local id of the last task of each throttled key."""
    sequence: int = 0
    fresh: list[tuple[Task, str]] = field(default_factory=list[tuple[Task, str]])

    # -- looking ---------------------------------------------------------------------------------------

    def of(self, *states: str) -> list[Task]:
        return [task for task in self.tasks.values() if task.state in states]

    def located(self, task: Task) -> str:
        """The state that the server must tell of a task."""
        if task.state in ("purged", "destroyed", "replaced") or not task.kept:
            return "unknown"
        if task.state == "running" and self.pending[task.place].deleted:
            return "unknown"
        if task.state == "completed" and task.result is None and not task.watched:
            return "unknown"
        return task.state

    def gone(self) -> list[Task]:
        """What is known to have ended, though nothing else is kept of it."""
        watched = [task for task in self.of("completed") if task.watched and task.result is None]
        return [task for task in [*self.of("cancelled", "expired"), *watched] if task.kept]

    def due(self) -> list[Task]:
        """What is scheduled, in the order in which it will be promoted."""
        return sorted(self.of("scheduled"), key=lambda task: order(task.place))

    def dead(self, until: int | None = None) -> list[Task]:
        """The dead letters, oldest first."""
        dead = sorted(self.of("dead"), key=lambda task: (task.when, task.local))
        return dead if until is None else [task for task in dead if task.when <= until]

    def entries(self, letter: str) -> list[str]:
        return sorted(self.streams[letter], key=order)

    def limbo(self, letter: str) -> list[str]:
        """Entries behind the group's last delivery that nobody holds."""
        return [
            place
            for place in self.entries(letter)
            if order(place) <= self.last[letter] and place not in self.pending
        ]

    def held_in(self, letter: str) -> list[str]:
        """The places pending in one stream's group."""
        return sorted((place for place in self.pending if place[0] == letter), key=order)

    # -- small steps -----------------------------------------------------------------------------------

    def placed(self, task: Task, place: str) -> None:
        """The server has told where a fresh entry is."""
        task.place = place
        self.streams[place[0]][place] = task.local

    def _append(self, task: Task, letter: str) -> None:
        task.state, task.place, task.indexed = "ready", "", True
        self.fresh.append((task, letter))

    def _park(self, task: Task, due: int) -> None:
        self.sequence += 1
        task.state, task.place = "scheduled", f"d{due}-{self.sequence}"

    def _ended(self, task: Task, state: str) -> None:
        task.state, task.when, task.indexed, task.place = state, self.now, False, ""
        self.cancels.discard(task.local)
        task.watched = self.waiters.pop(task.local, None) is not None
        self.expiring.pop(task.local, None)
        self._release(task)
        if state in ("completed", "cancelled", "expired", "dead"):
            self.counters[state] += 1

    def _release(self, task: Task) -> None:
        """Give back what an ended task holds: see `locks`."""

    def _bury_vanished(self, task: Task, letter: str, failures: int) -> None:
        self._ended(task, "dead")
        task.attempts = task.lost = 0
        task.expires, task.readable, task.failures = None, False, failures

    def _gone_for_good(self, place: str) -> None:
        """The group forgets a delivery whose entry was deleted by hand."""
        self.tasks[self.pending.pop(place).local].state = "destroyed"
