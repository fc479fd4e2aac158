"""Define the replies to workers, daemons, operators and observers, and the values that their calls carry.

Parses nothing: `calls` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from streamq.model.delivery import Success
from streamq.model.task import State
from streamq.model.where import Where, shown


class Renewal(NamedTuple):
    """Renew's reply: the type's lease as stored in Redis, places that no longer belong to the worker, ids to
    cancel."""

    now_ms: int
    lease_ms: int
    fenced: tuple[str, ...]
    cancelled: tuple[str, ...]


class Promotion(NamedTuple):
    """Promote's reply: how many tasks moved, when the next is due (None: nothing scheduled), and the server's
    clock."""

    moved: int
    next_due_ms: int | None
    now_ms: float


class Moved(NamedTuple):
    """The reply of requeue and purge: how many were moved, how many of this kind are left (0 if ids were
    given), and `stay`: letters that were skipped because they have no payload and cannot run, or because
    another task holds their unique key. held: the local id of each of the latter, and the holder's."""

    done: int
    left: int
    stay: int = 0
    held: tuple[tuple[str, str], ...] = ()


class Reclaim(NamedTuple):
    """Reclaim's reply: the cursor to continue from (`0-0`: round complete), and counts of the deliveries by
    what was done.

    `skew`: the server's clock differs from what was expected; nothing was changed. `unread`: the policy is
    not a hash, so the default lease and max_lost were used.
    """

    cursor: str
    now_ms: int
    returned: int = 0
    dead: int = 0
    cancelled: int = 0
    unread: bool = False
    skew: bool = False


class Note(NamedTuple):
    """An operator's action for the log: its id, the same in every call it takes, and JSON about it. Empty for
    a program's own action."""

    action: str = ""
    about: bytes = b""


class Orders(NamedTuple):
    """What a worker is asked to do: types not to take, whether to drain, whether to publish events
    (`tell`)."""

    paused: frozenset[str]
    drain: bool
    tell: bool


@dataclass(slots=True)  # not frozen, which would take three times as long to construct
class Located:
    """Where a task is now. `fields` are its stored fields if it still has an envelope. `success`: of a
    completed task; None if a worker of an earlier release completed it."""

    state: State
    now_ms: int
    where: Where | None = None
    fields: tuple[bytes, ...] = ()
    result: bytes | None = None
    success: Success | None = None

    @property
    def detail(self) -> dict[str, str]:
        """Return `where` as text, for people and for JSON."""
        return shown(self.where)
