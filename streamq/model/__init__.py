"""The nouns of streamq: frozen values that every layer passes on.

Those of which there is one a task are named tuples, which are made in half the time.

Owns the task's identity, its states and the ways a delivery can end. Does no I/O, reads no clock and
knows neither Redis nor a handler. A producer loads no more of them than it uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamq import lazy

if TYPE_CHECKING:
    from streamq.model.delivery import Delivery as Delivery
    from streamq.model.delivery import Entry as Entry
    from streamq.model.delivery import Overrides as Overrides
    from streamq.model.delivery import Success as Success
    from streamq.model.outcome import OUTCOMES as OUTCOMES
    from streamq.model.outcome import Cancelled as Cancelled
    from streamq.model.outcome import Completed as Completed
    from streamq.model.outcome import Died as Died
    from streamq.model.outcome import Expired as Expired
    from streamq.model.outcome import HandedBack as HandedBack
    from streamq.model.outcome import Outcome as Outcome
    from streamq.model.outcome import Retried as Retried
    from streamq.model.outcome import Settlement as Settlement
    from streamq.model.outcome import name_of as name_of
    from streamq.model.reply import COUNTERS as COUNTERS
    from streamq.model.reply import ENDED as ENDED
    from streamq.model.reply import Counts as Counts
    from streamq.model.reply import Located as Located
    from streamq.model.reply import Moved as Moved
    from streamq.model.reply import Note as Note
    from streamq.model.reply import Orders as Orders
    from streamq.model.reply import Promotion as Promotion
    from streamq.model.reply import Reclaim as Reclaim
    from streamq.model.reply import Renewal as Renewal
    from streamq.model.task import LETTER as LETTER
    from streamq.model.task import LIVING as LIVING
    from streamq.model.task import LOCAL_PATTERN as LOCAL_PATTERN
    from streamq.model.task import NAME_PATTERN as NAME_PATTERN
    from streamq.model.task import PRIORITIES as PRIORITIES
    from streamq.model.task import STATES as STATES
    from streamq.model.task import STREAM_LETTERS as STREAM_LETTERS
    from streamq.model.task import SUSPECT as SUSPECT
    from streamq.model.task import Accepted as Accepted
    from streamq.model.task import Answer as Answer
    from streamq.model.task import BacklogFull as BacklogFull
    from streamq.model.task import CancelAnswer as CancelAnswer
    from streamq.model.task import Conflict as Conflict
    from streamq.model.task import Duplicate as Duplicate
    from streamq.model.task import IdempotencyKey as IdempotencyKey
    from streamq.model.task import NewTask as NewTask
    from streamq.model.task import Priority as Priority
    from streamq.model.task import RateLimited as RateLimited
    from streamq.model.task import State as State
    from streamq.model.task import TaskId as TaskId
    from streamq.model.task import Unconfirmed as Unconfirmed
    from streamq.model.task import cancel_answer as cancel_answer
    from streamq.model.where import Buried as Buried
    from streamq.model.where import Ended as Ended
    from streamq.model.where import Ready as Ready
    from streamq.model.where import Running as Running
    from streamq.model.where import Scheduled as Scheduled
    from streamq.model.where import Where as Where

__all__, _named = lazy.names(__name__, {
    "delivery": ("Delivery", "Entry", "Overrides", "Success"),
    "outcome": (
        "Cancelled", "Completed", "Died", "Expired", "HandedBack", "OUTCOMES", "Outcome", "Retried",
        "Settlement", "name_of",
    ),
    "reply": (
        "COUNTERS", "Counts", "ENDED", "Located", "Moved", "Note", "Orders", "Promotion",
        "Reclaim", "Renewal",
    ),
    "task": (
        "Accepted", "Answer", "BacklogFull", "CancelAnswer", "Conflict", "Duplicate", "IdempotencyKey",
        "LETTER", "LIVING", "LOCAL_PATTERN", "NAME_PATTERN", "NewTask", "PRIORITIES", "Priority",
        "RateLimited", "STATES", "STREAM_LETTERS", "SUSPECT", "State", "TaskId", "Unconfirmed",
        "cancel_answer",
    ),
    "where": ("Buried", "Ended", "Ready", "Running", "Scheduled", "Where"),
})  # fmt: skip  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    return _named(name)
