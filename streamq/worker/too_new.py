"""Tasks that this worker cannot run and another one can: of a newer release, or sealed with a key that is not
here. Their delay, and their counts.

Owns the back-off and the counts. Each type and reason is logged once; heartbeats contain the counts, which
`streamq doctor` reads.
"""

from __future__ import annotations

import random
from typing import Final, TypedDict

from streamq import envelope
from streamq.errors import UnknownArguments
from streamq.model.delivery import Delivery
from streamq.model.outcome import HandedBack
from streamq.payloads.blob_store import NoBlobs
from streamq.payloads.stage import Elsewhere, NewerMemo, UnknownEncoding
from streamq.telemetry import logs

FIRST: Final = 30.0
FIRST_OF_VERSION: Final = 5.0
LONGEST: Final = 300.0
"""Seconds until a task is offered again, doubled each time up to the longest: a roll-out takes minutes."""
HOUR: Final = 15
"""How often a task is handed back in an hour with these delays. Then its key is taken for lost."""
HOUR_OF_VERSION: Final = 17
"""The same with the first delay of versions."""
MAX_KINDS: Final = 50
"""The most types and reasons to count separately: the reason is an unbounded text in the envelope."""
OTHER: Final = "other"
ARGUMENT: Final = "argument:"
"""Starts what a task needs that has an argument of this name."""
_ARGUMENT: Final = (
    "restart this worker with the code that sends this argument: such tasks are dead letters after an hour. "
    "extra='ignore' drops it"
)
VERSION: Final = "version:"
"""Starts what a task of a newer version of its type needs."""
_UNTIL: Final = "Until then they are handed back for a worker that can run them, without counting an attempt."
_RELEASE: Final = "restart this worker with the newer release of streamq that wrote these tasks"
_VERSION: Final = "restart this worker with the code that sends these tasks, of a newer version of the type"
_KEY: Final = "give this worker the key ring of their sender: they are dead letters after an hour"
BLOBS: Final = "blobs"
"""What a task needs whose arguments are in a store that cannot be reached from here."""
_BLOBS: Final = "Give this worker the blob store of their sender, or mend the store"
_ENCODING: Final = "Install what it needs, or restart this worker with the newer release that wrote them"


class TooNewCount(TypedDict):
    """The deliveries of one task type that were handed back for one reason."""

    type: str
    needs: str
    count: int


class TooNewTasks:
    """The too-new tasks of one worker process. Written in the event loop, read in other threads."""

    def __init__(self, worker: str) -> None:
        self._log = logs.get_logger(worker=worker)
        self._counts: dict[tuple[str, str], int] = {}

    def delay_ms(self, task_type: str, error: envelope.TooNew) -> int:
        """Count a delivery, and return in how many ms it should be offered again."""
        return self._delay_ms(task_type, error.needs, error.times, _RELEASE)

    def newer(self, task: Delivery, version: int) -> HandedBack:
        """Return how a task is handed back whose payload or memo is of a newer version than this worker's
        code."""
        needs = f"{VERSION}{version}"
        delay_ms = self._delay_ms(task.type, needs, task.handed_back, _VERSION, FIRST_OF_VERSION)
        return HandedBack(False, delay_ms, min(task.handed_back, 1000) + 1)

    def unreadable(self, task: Delivery, error: Elsewhere | NoBlobs | UnknownArguments) -> HandedBack | None:
        """Return how a task is handed back whose payload, memo or signal cannot be read here; None if that
        has been done for an hour, and its key is nowhere."""
        if isinstance(error, UnknownEncoding):
            needs, fix = f"payload:{error.mark}", f"{error}. {_ENCODING}"
        elif isinstance(error, NoBlobs):
            needs, fix = BLOBS, f"{error}. {_BLOBS}"
        elif isinstance(error, UnknownArguments):
            return self._unknown(task, error)
        elif isinstance(error, NewerMemo):
            return self.newer(task, error.version)
        elif task.handed_back >= HOUR:
            return None
        else:
            needs, fix = f"key:{error.key}", _KEY
        delay_ms = self._delay_ms(task.type, needs, task.handed_back, fix)
        return HandedBack(False, delay_ms, min(task.handed_back, 1000) + 1)

    def _unknown(self, task: Delivery, error: UnknownArguments) -> HandedBack | None:
        """Return how a task is handed back that has an argument which this worker's code does not: newer code
        has sent it, or somebody who has misspelt it. None after an hour."""
        if task.handed_back >= HOUR_OF_VERSION:
            return None
        needs = f"{ARGUMENT}{error.names[0][:60] if error.names else ''}"
        delay_ms = self._delay_ms(task.type, needs, task.handed_back, _ARGUMENT, FIRST_OF_VERSION)
        return HandedBack(False, delay_ms, min(task.handed_back, 1000) + 1)

    def _delay_ms(self, task_type: str, needs: str, times: int, fix: str, first: float = 0.0) -> int:
        delay = min(LONGEST, (first or FIRST) * 2.0 ** min(times, 16)) * random.uniform(1.0, 1.1)
        self._count(task_type, needs, delay, fix)
        return round(delay * 1000)

    def _count(self, task_type: str, needs: str, delay: float, fix: str) -> None:
        kind = task_type, needs
        if kind not in self._counts:
            if len(self._counts) >= MAX_KINDS:
                kind = OTHER, OTHER
            else:
                self._log.warning(
                    "task.too_new",
                    type=task_type,
                    needs=needs,
                    again_in=round(delay),
                    fix=f"{fix}. {_UNTIL}",
                )
        self._counts[kind] = self._counts.get(kind, 0) + 1

    def counts(self) -> list[TooNewCount]:
        """Return the counts by type and reason, in the format of the heartbeat."""
        return [
            {"type": task_type, "needs": needs, "count": count}
            for (task_type, needs), count in list(self._counts.items())
        ]
