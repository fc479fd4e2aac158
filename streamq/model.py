"""The nouns of streamq: frozen values that every layer passes on.

Those of which there is one a task are named tuples, which are made in half the time.

Owns the task's identity, its states and the ways a delivery can end. Does no I/O, reads no clock and
knows neither Redis nor a handler.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from streamq.errors import InvalidTaskId

Priority = Literal["high", "normal", "low"]
PRIORITIES: Final[tuple[Priority, ...]] = ("high", "normal", "low")
LETTER: Final[dict[Priority, str]] = {"high": "h", "normal": "n", "low": "l"}
SUSPECT: Final = "s"
"""The letter of the stream of suspects: tasks that were in hand when a worker died, more than once."""

STREAM_LETTERS: Final = ("h", "n", "l", SUSPECT)

State = Literal["scheduled", "ready", "running", "completed", "dead", "cancelled", "expired", "unknown"]
STATES: Final[dict[State, tuple[State, ...]]] = {
    "scheduled": ("ready", "cancelled"),
    "ready": ("running", "cancelled"),
    "running": ("completed", "scheduled", "ready", "dead", "cancelled", "expired"),
    "dead": ("ready",),
    "completed": (),
    "cancelled": (),
    "expired": (),
    "unknown": (),
}
"""Each state with the states it may be followed by. `unknown`: never existed, or no longer kept."""

LIVING: Final[frozenset[State]] = frozenset({"scheduled", "ready", "running"})
"""The states that a task leaves by itself."""

NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
LOCAL_PATTERN: Final = re.compile(r"[hnlsd]\d{1,16}-\d{1,20}")


class TaskId(NamedTuple):
    """A task's identity, written `type:shard:local`.

    `local` is the letter of the stream and the id of the task's first entry (`n1732450000000-0`), or
    `d`, the due time in ms and a number for a task that began in the schedule. It never changes.
    """

    type: str
    shard: int
    local: str

    def __str__(self) -> str:
        return f"{self.type}:{self.shard}:{self.local}"

    @classmethod
    def parse(cls, text: str) -> TaskId:
        """Read an id as `str()` wrote it; InvalidTaskId tells the form for anything else."""
        parts = text.split(":")
        if len(parts) == 3 and NAME_PATTERN.fullmatch(parts[0]) and LOCAL_PATTERN.fullmatch(parts[2]):
            shard = parts[1]
            if shard.isascii() and shard.isdigit() and len(shard) <= 4:
                return cls(parts[0], int(shard), parts[2])
        raise InvalidTaskId(f"{text[:120]!r} is not a task id; one looks like 'email:0:n1732450000000-0'")


class IdempotencyKey(NamedTuple):
    """A caller's name for one task, with a digest (16 bytes) of what the task is.

    Within `window_ms` of its first task the same name is answered with that task.
    """

    name: str
    digest: bytes
    window_ms: int


class NewTask(NamedTuple):
    """A task on its way in: what the enqueue script needs to know of it.

    `due` is None for now, a positive number of ms from now, or with `absolute` ms since the epoch.
    `fields` are the headers that differ from the defaults (see `codec`).
    """

    payload: bytes
    priority: Priority = "normal"
    due: int | None = None
    absolute: bool = False
    fields: tuple[tuple[str, bytes | str], ...] = ()
    key: IdempotencyKey | None = None


class Accepted(NamedTuple):
    """Enqueue's answer for one task: its local id."""

    local: str


class Duplicate(NamedTuple):
    """Enqueue's answer for a task whose idempotency key has been there: the first task's local id."""

    local: str


class Conflict(NamedTuple):
    """Enqueue's answer where the idempotency key belongs to another task (`type:local`)."""

    first: str


class Unconfirmed(NamedTuple):
    """The task was accepted, and it did not become known in time that it is as durable as was asked."""

    local: str
    why: str
    duplicate: bool = False


class RateLimited(NamedTuple):
    """Enqueue's answer for a task over the rate limit."""

    retry_after_ms: int


@dataclass(frozen=True, slots=True)
class BacklogFull:
    """Enqueue's answer for a task over the backlog limit."""


Answer = Accepted | Duplicate | Conflict | RateLimited | BacklogFull | Unconfirmed


class Entry(NamedTuple):
    """One stream entry as it was handed over, not yet decoded. `fields` is None where it was deleted."""

    letter: str
    entry: str
    fields: Sequence[bytes] | None

    @property
    def place(self) -> str:
        """Stream letter and entry id: names this delivery among all of its type, for ever."""
        return self.letter + self.entry


class Delivery(NamedTuple):
    """A decoded entry in a worker's hands: one attempt to run one task.

    Times are ms since the epoch by the server's clock. `attempt` counts from 1; `lost` counts the
    deliveries before this one whose worker died. `accepted_ms` is None where the id tells it. `trace` is
    the trace context of the enqueue call.
    """

    type: str
    shard: int
    place: str
    local: str
    payload: bytes
    attempt: int = 1
    lost: int = 0
    accepted_ms: int | None = None
    expires_ms: int | None = None
    overrides: Overrides | None = None
    failures: bytes = b""
    trace: bytes = b""

    @property
    def enqueued_ms(self) -> int:
        """When the task was accepted."""
        return int(self.local[1:].partition("-")[0]) if self.accepted_ms is None else self.accepted_ms

    @property
    def moved(self) -> bool:
        """Whether the task has a row in the index: it is not where its id says."""
        return self.local != self.place

    @property
    def id(self) -> TaskId:
        return TaskId(self.type, self.shard, self.local)


class Overrides(NamedTuple):
    """What one call set otherwise than the task type's policy; None leaves the policy's value."""

    timeout: float | None = None
    max_attempts: int | None = None
    retention: float | None = None


class Completed(NamedTuple):
    """The handler returned; `result` is JSON with a note of the attempt (see `codec.keep`), kept for
    `retention_ms` (0: not at all)."""

    result: bytes = b""
    retention_ms: int = 0


class Retried(NamedTuple):
    """The attempt failed and the task runs again in `delay_ms`; `failures` is the JSON list of all."""

    delay_ms: int
    failures: bytes


class Died(NamedTuple):
    """The task becomes a dead letter. `started` is False where no handler was called; `fingerprint` is
    what it is grouped by, the reason where it is empty."""

    reason: str
    failures: bytes
    started: bool = True
    fingerprint: str = ""


class Cancelled(NamedTuple):
    """Somebody cancelled the task before it completed."""

    started: bool = True


@dataclass(frozen=True, slots=True)
class Expired:
    """The task was too old to be worth running."""


class HandedBack(NamedTuple):
    """The worker gives the task back unharmed: it is stopping, or may not run it now."""

    started: bool = False


Outcome = Completed | Retried | Died | Cancelled | Expired | HandedBack
OUTCOMES: Final[dict[type, str]] = {
    Completed: "completed", Retried: "retried", Died: "dead", Cancelled: "cancelled", Expired: "expired",
    HandedBack: "handed_back",
}  # fmt: skip
"""What each way of ending is called in logs, metrics and traces."""


def name_of(outcome: Outcome) -> str:
    return OUTCOMES[type(outcome)]


class Settlement(NamedTuple):
    """One delivery with its outcome, on its way to the settle script."""

    place: str
    local: str
    outcome: Outcome


class Renewal(NamedTuple):
    """Renew's answer: the type's lease as Redis has it, places no longer ours, ids to cancel."""

    now_ms: int
    lease_ms: int
    lost: tuple[str, ...]
    cancelled: tuple[str, ...]


class Promotion(NamedTuple):
    """Promote's answer: how many moved, when the next is due (None: nothing scheduled), the clock."""

    moved: int
    next_due_ms: int | None
    now_ms: int


class Moved(NamedTuple):
    """Requeue's and purge's answer: how many were moved, how many of this kind are left (0 where ids were
    given), and how many of those looked at stay, since they have no payload and cannot run."""

    done: int
    left: int
    stay: int = 0


class Reclaim(NamedTuple):
    """Reclaim's answer: where to go on (`0-0`: round complete) and what became of the deliveries.

    `skew`: the server's clock is not where it was expected; nothing was touched.
    """

    cursor: str
    now_ms: int
    returned: int = 0
    dead: int = 0
    cancelled: int = 0
    skew: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """One task type at one instant: states, counters, and the age of the oldest ready task."""

    now_ms: int
    ready: int
    running: int
    scheduled: int
    dead: int
    suspect: int
    oldest_ready_ms: int | None
    next_due_ms: int | None
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def imbalance(self) -> int:
        """Accepted tasks minus those accounted for: 0 where the books are right (invariant I5)."""
        c = self.counters
        accepted = c.get("accepted", 0) + c.get("adopted", 0)
        ended = sum(c.get(name, 0) for name in ENDED)
        return accepted - (self.ready + self.running + self.scheduled + self.dead + ended)


ENDED: Final = ("completed", "cancelled", "expired", "purged", "vanished")
"""The counters of tasks that are no longer there, as the books count them."""

COUNTERS: Final = (
    "accepted", "started", "completed", "retried", "dead", "reclaimed", "cancelled", "expired",
    "handed_back", "requeued", "purged", "adopted", "repaired", "vanished",
)  # fmt: skip
"""What is counted for each task type, by the same script that makes it true.

`started`: attempts that ended or whose worker died; `dead`: how often a task became a dead letter;
`adopted`: entries that streamq did not write and that became dead letters; `repaired`: what the daemon or
`streamq audit --repair` put right; `vanished`: tasks that something else deleted, once written off.
"""


class Note(NamedTuple):
    """An operator's action for the log: its id, the same in every call it takes, and JSON about it.
    Empty where the action is a program's own."""

    action: str = ""
    about: bytes = b""


class Orders(NamedTuple):
    """What a worker is asked to do: types to leave alone, to drain, to tell what happens."""

    paused: frozenset[str]
    drain: bool
    tell: bool


class DeadLetter(NamedTuple):
    """A task that will not run again by itself, with everything that is known of it."""

    id: TaskId
    died_ms: int
    reason: str
    priority: Priority
    fields: tuple[bytes, ...]


class Success(NamedTuple):
    """The attempt that completed a task, as far as its kept result tells.

    worker: the last six digits of its name. at_ms: when it ended, by the server's clock. wait_ms: from ready
    to started; run_ms: in the handler.
    """

    attempt: int
    at_ms: int
    wait_ms: int
    run_ms: int
    worker: str


@dataclass(frozen=True, slots=True)
class Located:
    """Where a task is now. `fields` are its stored fields where it still has an envelope. `success`: of a
    completed task, None where a worker of an older release completed it."""

    state: State
    now_ms: int
    detail: dict[str, str] = field(default_factory=dict)
    fields: tuple[bytes, ...] = ()
    result: bytes | None = None
    success: Success | None = None
