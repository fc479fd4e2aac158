"""Define a task's identity, its states, and a new task with enqueue's answers.

Owns what a producer knows of a task. Knows nothing of Redis.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from streamq.errors import InvalidTaskId

Priority = Literal["high", "normal", "low"]
PRIORITIES: Final[tuple[Priority, ...]] = ("high", "normal", "low")
LETTER: Final[dict[Priority, str]] = {"high": "h", "normal": "n", "low": "l"}
SUSPECT: Final = "s"
"""The letter of the stream that is read first. It holds tasks that were handed back, and suspects: tasks that
a worker held when it died, more than once. A suspect has lost deliveries; of suspects one runs at a time."""

STREAM_LETTERS: Final = ("h", "n", "l", SUSPECT)

State = Literal[
    "scheduled", "parked", "ready", "running", "completed", "dead", "cancelled", "expired", "unknown"
]
STATES: Final[dict[State, tuple[State, ...]]] = {
    "scheduled": ("parked", "ready", "cancelled", "expired"),
    "parked": ("ready", "cancelled", "expired"),
    "ready": ("running", "cancelled", "expired"),
    "running": ("completed", "scheduled", "parked", "ready", "dead", "cancelled", "expired"),
    "dead": ("parked", "ready"),
    "completed": (),
    "cancelled": (),
    "expired": (),
    "unknown": (),
}
"""Each state with the states that may follow it. `unknown`: never existed, or no longer stored."""

LIVING: Final[frozenset[State]] = frozenset({"scheduled", "parked", "ready", "running"})
"""The states that a task leaves on its own."""

NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
TYPE_PATTERN: Final = re.compile(rf"{NAME_PATTERN.pattern}(?:@[A-Za-z0-9_][A-Za-z0-9_.-]{{0,49}})?")
"""The name of a task type as it is stored: with its pool, as in `email@eu`."""
LOCAL_PATTERN: Final = re.compile(r"[hnlsd]\d{1,16}-\d{1,20}")


CancelAnswer = Literal["cancelled", "requested", "too late", "unknown"]
SignalAnswer = Literal["delivered", "stored", "too late", "unknown"]


def cancel_answer(reply: str, state: State) -> CancelAnswer:
    """Return the answer to a caller, from the cancel script's reply and, if that is inconclusive, the task's
    state."""
    if reply == "cancelled":
        return "cancelled"
    if reply == "requested":
        return "requested"
    return "unknown" if reply == "unknown" and state == "unknown" else "too late"


class TaskId(NamedTuple):
    """A task's identity, written `type:shard:local`.

    `local` is the letter of the stream and the id of the task's first entry (`n1732450000000-0`), or `d`, the
    due time in ms and a number for a task that began in the schedule. It never changes.
    """

    type: str
    shard: int
    local: str

    def __str__(self) -> str:
        return f"{self.type}:{self.shard}:{self.local}"

    @classmethod
    def parse(cls, text: str) -> TaskId:
        """Return the id that `str()` wrote. InvalidTaskId states the form for anything else."""
        parts = text.split(":") if isinstance(text, str) else []  # type: ignore[redundant-expr]
        if len(parts) == 3 and TYPE_PATTERN.fullmatch(parts[0]) and LOCAL_PATTERN.fullmatch(parts[2]):
            shard = parts[1]
            if shard.isascii() and shard.isdigit() and len(shard) <= 4:
                return cls(parts[0], int(shard), parts[2])
        raise InvalidTaskId(
            f"{str(text)[:120]!r} is not a task id; one looks like 'email:0:n1732450000000-0'"
        )


class IdempotencyKey(NamedTuple):
    """A caller's name for one task, with a digest (16 bytes) of the task's content.

    Within `window_ms` of its first task, enqueueing the same name returns that task.
    """

    name: str
    digest: bytes
    window_ms: int


class NewTask(NamedTuple):
    """A new task: what the enqueue script needs to know of it.

    `due` is None for now, a positive number of ms from now, or with `absolute` ms since the epoch.
    `fields` are the headers that differ from the defaults (see `envelope`). `joins` is what the task
    takes part in besides its stream, as a JSON object: such a task is accepted by the rich script.
    """

    payload: bytes
    priority: Priority = "normal"
    due: int | None = None
    absolute: bool = False
    fields: tuple[tuple[str, bytes | str], ...] = ()
    key: IdempotencyKey | None = None
    joins: str = ""


class Accepted(NamedTuple):
    """Enqueue's answer for an accepted task: its local id."""

    local: str


class Duplicate(NamedTuple):
    """Enqueue's answer for an idempotency key that was used before: the first task's local id."""

    local: str


class Conflict(NamedTuple):
    """Enqueue's answer if the idempotency key belongs to a different task (`type:local`)."""

    first: str


class Locked(NamedTuple):
    """The answer if another task holds the lock of the unique key. local: the id of that task."""

    local: str


class Unjoined(NamedTuple):
    """The answer for a task without the unique key that the type's policy asks for: nothing was stored. Read
    the policy, and send the task again with it."""


class Unconfirmed(NamedTuple):
    """The task was accepted, but the requested durability was not confirmed in time."""

    local: str
    why: str
    duplicate: bool = False


class RateLimited(NamedTuple):
    """Enqueue's answer for a task over the rate limit."""

    retry_after_ms: int


@dataclass(frozen=True, slots=True)
class BacklogFull:
    """Enqueue's answer for a task over the backlog limit."""


Answer = Accepted | Duplicate | Conflict | Locked | RateLimited | BacklogFull | Unconfirmed | Unjoined
