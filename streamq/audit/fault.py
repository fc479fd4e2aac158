"""What may be wrong with a queue: each fault with the invariant it breaks, and what is to be done.

Owns the list of faults. Does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault. `repair`: what --repair does of it; '' where only an operator can judge.
    `advice`: what to do where --repair does nothing."""

    invariant: str
    repair: str = ""
    advice: str = ""


_DAEMON: Final = "is a daemon running? if not, start one: streamq daemon"

FAULTS: Final[dict[str, Kind]] = {
    "not where the index says": Kind("I1", "the index names its place"),
    "in two places at once": Kind(
        "I1", "", "it would run twice: compare both places, and delete the one that the index does not name"
    ),
    "alive and dead at once": Kind(
        "I1", "", "purge its dead letter (streamq dead purge ID), or cancel the task (streamq cancel ID)"
    ),
    "in the index but never moved": Kind("I1", "removed the row: the task is where its id says"),
    "in the index but nowhere": Kind("I7", "removed the row: the task has no entry anywhere"),
    "cannot be unpacked": Kind(
        "I1", "", "it becomes a dead letter when it is due, with all that is in it; find out what wrote it"
    ),
    "pending but deleted": Kind(
        "I1",
        "ended the delivery; the task is a dead letter (vanished), which balances the books: dead + 1",
        "a worker holds it still: repair again when its lease has run out",
    ),
    "delivered to nobody": Kind("I6", "appended the task anew"),
    "dead but its letter is missing": Kind("I1", "stored a letter without payload (vanished): purge it"),
    "a dead letter that is not listed": Kind("I7", "listed it again"),
    "dead letters and their groups differ": Kind(
        "I7", "", "requeue or purge them by id or by type, which does not go by groups"
    ),
    "a dead letter that cannot be read": Kind(
        "I7", "", "something else wrote it: look at it with HGET, and delete it with HDEL and ZREM"
    ),
    "the counters do not add up": Kind(
        "I5",
        "wrote the difference off: it is counted as vanished (too few) or adopted (too many)",
        "something else deleted or added entries: find it; then --repair --write-off closes the books",
    ),
    "a counter that is no number": Kind(
        "I5",
        "counts again",
        "nothing that counts with it is written meanwhile: streamq audit --repair recounts it",
    ),
    "counters of the wrong kind": Kind(
        "I5",
        "made anew: what ended before is not counted any more",
        "nothing that counts is written meanwhile: streamq audit --repair makes them anew",
    ),
    "a cancel request without a task": Kind("I7", "removed the request"),
    "expired but not ended": Kind("I9", "", _DAEMON),
    "waiters long past their time": Kind("I7", "", _DAEMON),
    "kept for ever": Kind("I7", "gave the key a lifetime"),
    "a lifetime on what must live": Kind("I2", "the key lives for ever"),
    "the wrong kind of value": Kind("I2", "", "something else wrote it: RENAME the key, then audit again"),
    "a key that streamq does not know": Kind(
        "I7", "", "look at it (TYPE, SCAN); UNLINK it if it is nobody's"
    ),
    "a shard that nobody serves": Kind(
        "I9", "", "start a worker of a program that names so many shards: StreamQ(..., shards=...)"
    ),
    "a task type that is not listed": Kind("I9", "listed it: daemons serve it again"),
    "a stream without its group": Kind("I9", "created the group, from the first entry on"),
    "deliveries held far beyond their lease": Kind("I9", "", _DAEMON),
    "due but not promoted": Kind("I9", "", _DAEMON),
    "could not be checked": Kind("I1", "", "see the server's words; mend that, then audit again"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A broken invariant: its number, the task type and shard, what is wrong and where, and what to do."""

    invariant: str
    type: str
    shard: int
    problem: str
    where: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Repaired:
    """A problem that was put right (or would be, in a dry run), and how."""

    problem: Problem
    how: str


@dataclass
class Audit:
    """The audit's findings and how much it looked at.

    `problems` are those that remain; `repaired` those that were put right. A long list is cut: `omitted`
    counts what it leaves out.
    """

    checked: int = 0
    problems: list[Problem] = field(default_factory=list)
    repaired: list[Repaired] = field(default_factory=list)
    omitted: int = 0

    @property
    def ok(self) -> bool:
        """Whether no problem remains."""
        return not self.problems
