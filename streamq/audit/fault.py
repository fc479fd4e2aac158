"""The possible faults of a queue, each with the invariant that it breaks, and its fix.

Owns the list of faults. Does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from streamq.calls.audit import FaultCode


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault. text: what is wrong. repair: what --repair does; '' if only an operator can decide.
    advice: what to do if --repair does nothing."""

    text: str
    invariant: str
    repair: str = ""
    advice: str = ""


_DAEMON: Final = "is a daemon running? if not, start one: streamq daemon"

FAULTS: Final[dict[FaultCode, Kind]] = {
    "misplaced": Kind("not where the index says", "I1", "the index names its place"),
    "in_two_places": Kind(
        "in two places at once",
        "I1",
        "",
        "it would run twice: compare both places, and delete the one that the index does not name",
    ),
    "alive_and_dead": Kind(
        "alive and dead at once",
        "I1",
        "",
        "purge its dead letter (streamq dead purge ID), or cancel the task (streamq cancel ID)",
    ),
    "needless_index_row": Kind(
        "in the index but never moved", "I1", "removed the row: the task is where its id says"
    ),
    "orphaned_index_row": Kind(
        "in the index but nowhere", "I7", "removed the row: the task has no entry anywhere"
    ),
    "unreadable_row": Kind(
        "cannot be unpacked",
        "I1",
        "",
        "it becomes a dead letter when it is due, with all its content; find out what wrote it",
    ),
    "deleted_while_pending": Kind(
        "pending but deleted",
        "I1",
        "ended the delivery; the task is a dead letter (vanished), which balances the books: dead + 1",
        "a worker still holds it: repair again when its lease is over",
    ),
    "undelivered": Kind("delivered to nobody", "I6", "appended the task anew"),
    "missing_letter": Kind(
        "dead but its letter is missing", "I1", "stored a letter without payload (vanished): purge it"
    ),
    "unlisted_letter": Kind("a dead letter that is not listed", "I7", "listed it again"),
    "groups_differ": Kind(
        "dead letters and their groups differ",
        "I7",
        "",
        "requeue or purge them by id or by type, which does not use groups",
    ),
    "changed_score": Kind(
        "lanes or groups of dead letters with a wrong score, which hides others in the index",
        "I9",
        "set their scores to 0",
    ),
    "unreadable_letter": Kind(
        "a dead letter that cannot be read",
        "I7",
        "",
        "another program wrote it: look at it with HGET, and delete it with HDEL and ZREM",
    ),
    "slots_differ": Kind(
        "a lane that holds more or less than was written", "I5", "counted anew what the lane holds"
    ),
    "stuck_lane": Kind(
        "a lane that may go and does not have its turn", "I9", "looked at it again: it has its turn"
    ),
    "stale_turn": Kind(
        "a lane that has its turn and may not go", "I9", "looked at it again: it has no turn any more"
    ),
    "missing_timer": Kind(
        "a lane that waits for a time, without a timer that would open it then", "I9", "set its timer"
    ),
    "stale_timer": Kind("a timer of a lane that waits for no time", "I9", "removed the timer"),
    "orphaned_halt": Kind(
        "a lane that is halted by a dead letter that does not exist", "I9", "opened the lane: it goes on"
    ),
    "counters_off": Kind(
        "the counters do not add up",
        "I5",
        "wrote the difference off: it is counted as vanished (too few) or adopted (too many)",
        "another program deleted or added entries: find it; then --repair --write-off balances the counters",
    ),
    "unreadable_counter": Kind(
        "a counter that is not a number",
        "I5",
        "counts again",
        "scripts that use it refuse to write meanwhile: streamq audit --repair recounts it",
    ),
    "wrong_kind_counters": Kind(
        "counters of the wrong kind",
        "I5",
        "created again: tasks that ended before no longer count",
        "scripts that count refuse to write meanwhile: streamq audit --repair creates them again",
    ),
    "orphaned_cancel": Kind("a cancel request without a task", "I7", "removed the request"),
    "unended_expired": Kind("expired but not ended", "I9", "", _DAEMON),
    "stale_waiters": Kind("waiters long past their time", "I7", "", _DAEMON),
    "orphaned_lock": Kind(
        "a unique key's lock without its task", "I7", "released the lock; a task that waited for it is ready"
    ),
    "orphaned_memo": Kind("the memo of a step without its task", "I7", "deleted the memo"),
    "missing_lock": Kind("a task without the lock of its unique key", "I1", "gave the lock back to the task"),
    "stranded_successor": Kind(
        "waits for the end of no task", "I9", "it waits for the holder of its unique key, or is ready"
    ),
    "missing_lifetime": Kind("kept for ever", "I7", "gave the key a lifetime"),
    "unwanted_lifetime": Kind("a lifetime on what must live", "I2", "the key lives for ever"),
    "wrong_kind": Kind(
        "the wrong kind of value", "I2", "", "another program wrote it: RENAME the key, then audit again"
    ),
    "unknown_key": Kind(
        "a key that streamq does not know",
        "I7",
        "",
        "look at it (TYPE, SCAN); UNLINK it if no program needs it",
    ),
    "unserved_shard": Kind(
        "a shard that no worker serves",
        "I9",
        "",
        "start a worker of a program with that many shards: StreamQ(..., shards=...)",
    ),
    "unlisted_type": Kind("a task type that is not listed", "I9", "listed it: daemons serve it again"),
    "missing_group": Kind("a stream without its group", "I9", "created the group, from the first entry on"),
    "unreclaimed": Kind("deliveries held far beyond their lease", "I9", "", _DAEMON),
    "unpromoted": Kind("due but not promoted", "I9", "", _DAEMON),
    "flow_books_off": Kind(
        "a flow whose counters do not match its nodes",
        "I8",
        "",
        "cancel it, and start it again: streamq flow cancel ID",
    ),
    "lost_node": Kind(
        "a released node of a flow whose task is gone",
        "I7",
        "told the flow that the node has died",
        _DAEMON,
    ),
    "lost_child": Kind(
        "a task that waits for a flow that is gone",
        "I7",
        "",
        "it looks within an hour, and runs the flow anew: find out what deleted flow= keys",
    ),
    "overdue_blobs": Kind(
        "no task needs them, and they were not removed from the store",
        "I7",
        "",
        "run a worker with the app's blob store, or streamq blobs gc with STREAMQ_BLOBS",
    ),
    "stuck_flow": Kind("a node that has ended, but whose flow was not advanced", "I6", "", _DAEMON),
    "unreadable_schedule": Kind(
        "a schedule whose definition or arguments cannot be read",
        "I9",
        "",
        "it makes no runs: put it anew (for one that code declares, restart a worker after removing it), or "
        "remove it: streamq schedules remove NAME",
    ),
    "unreadable_schedule_state": Kind(
        "a schedule whose next run cannot be read",
        "I9",
        "began it anew: its times from now on, its counts from 0",
        "it makes no runs: put it anew, or remove it: streamq schedules remove NAME",
    ),
    "damaged_last_run": Kind(
        "a schedule whose last run cannot be one",
        "I7",
        "forgot the last run: the next one does not look at it",
    ),
    "wrong_due_time": Kind(
        "a schedule that is due although it is paused or over, or not due although it is active",
        "I9",
        "wrote its due time anew",
    ),
    "orphaned_due_time": Kind("a due time without a schedule", "I7", "removed the due time"),
    "unchecked": Kind(
        "could not be checked", "I1", "", "see the server's error; fix its cause, then audit again"
    ),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A broken invariant: its number, the task type and shard, what is wrong and where, and what to do.

    code: the kind of fault, for programs; it never changes. problem: the same in words.
    """

    invariant: str
    type: str
    shard: int
    code: FaultCode
    problem: str
    where: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Repaired:
    """A problem that was repaired (or would be, in a dry run), and how."""

    problem: Problem
    how: str


@dataclass
class Audit:
    """The findings of an audit, and how much it checked.

    problems: those that remain. repaired: those that were repaired. omitted: how many a long list leaves out.
    """

    checked: int = 0
    problems: list[Problem] = field(default_factory=list)
    repaired: list[Repaired] = field(default_factory=list)
    omitted: int = 0

    @property
    def ok(self) -> bool:
        """Whether no problem remains."""
        return not self.problems
