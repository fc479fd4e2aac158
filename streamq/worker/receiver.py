"""Takes fetched entries into flight and passes them to the runner, or hands them back.

Owns that first decision about a delivery. An entry that cannot be decoded becomes a dead letter; a task that
a newer release wrote is handed back with a delay, for a worker that can run it; one that an older daemon
moved past the gate of its lane is handed back to ask. Must not fetch or run.
"""

from __future__ import annotations

from collections.abc import Callable

from streamq import envelope
from streamq.calls.worker import FetchedByType
from streamq.errors import DecodeError
from streamq.keys import TypeKeys
from streamq.model.delivery import Delivery, Entry
from streamq.model.outcome import Died, HandedBack, Outcome
from streamq.model.task import SUSPECT
from streamq.retry import GiveUp
from streamq.worker.failures import Failure
from streamq.worker.in_flight import FailedAttempt, Held, InFlight
from streamq.worker.runner import Runner
from streamq.worker.settler import Settler
from streamq.worker.too_new import TooNewTasks

_UNKNOWN = b"\x90"
"""The claims of a task that was not decoded: the rich settle script reads them from its entry."""


class Receiver:
    """The receiver of one worker process. `is_closed`: returns whether tasks of a type are handed back.
    `is_newer`: returns whether a payload is of a newer version than the code."""

    def __init__(
        self,
        worker: str,
        in_flight: InFlight,
        runner: Runner,
        settler: Settler,
        is_closed: Callable[[TypeKeys], bool],
        too_new: TooNewTasks,
        is_newer: Callable[[Delivery], bool],
    ) -> None:
        self._worker = worker
        self._in_flight, self._runner, self._settler = in_flight, runner, settler
        self._is_closed = is_closed
        self._too_new, self._is_newer = too_new, is_newer

    async def deliver(self, found: FetchedByType) -> None:
        """Take fetched entries into flight and pass them to the runner, or hand them back."""
        now_ms, parts = found
        if now_ms:
            self._runner.clocks.set(parts[0][0].keys.shard if parts else 0, now_ms)
        suspects = self._in_flight.suspects
        for source, entries in parts:
            received = [held for entry in entries if (held := self._receive(source.keys, entry))]
            refused: list[Held] = []
            if self._is_closed(source.keys) or self._runner.is_alone:
                received, refused = [], received
            elif source.letter == SUSPECT:
                received, refused = _one_suspect(received, suspects)
            suspects = self._in_flight.suspects
            self._runner.put(received)
            for held in refused:
                self._hand_back(held)
        if suspects > 1:
            # Wait until the others are handed back: a task that may kill its worker must be the only suspect.
            await self._settler.flush(parts[0][0].keys.shard)

    def recovered(self, keys: TypeKeys, places: list[str]) -> None:
        """Hand back deliveries that were lost on the way to this worker."""
        for place in places:
            self._settle_unread(keys, place, HandedBack())

    def _receive(self, keys: TypeKeys, entry: Entry) -> Held | None:
        """Take an entry into flight; return None if it is already, cannot be decoded, or must first ask its
        lane: then it is handed back, and the script has it ask."""
        try:
            delivery = envelope.decode(keys.type, keys.shard, entry)
        except envelope.TooNew as error:
            delay_ms = self._too_new.delay_ms(keys.type, error)
            outcome = HandedBack(False, delay_ms, error.times + 1)
            self._settle_unread(keys, entry.place, outcome)
            return None
        except DecodeError as error:
            self._undecodable(keys, entry, error)
            return None
        if (delivery.version > 1 or delivery.claims) and self._is_refused(keys, delivery):
            return None
        held = Held(delivery)
        return held if self._in_flight.add(held) else None

    def _is_refused(self, keys: TypeKeys, delivery: Delivery) -> bool:
        """Hand a delivery back, unless it may run here. Return whether it may not, or is in flight."""
        if self._in_flight.holds(delivery):
            return True
        if delivery.version > 1 and self._is_newer(delivery):
            self._settle_unread(keys, delivery.place, self._too_new.newer(delivery, delivery.version))
            return True
        if delivery.asks_its_lane:
            self._settle_unread(keys, delivery.place, HandedBack())
            return True
        return False

    def _undecodable(self, keys: TypeKeys, entry: Entry, error: DecodeError) -> None:
        """Make a dead letter of an entry that cannot be decoded, with all its fields."""
        failures = envelope.add_failure(
            b"", attempt=0, at_ms=self._runner.clocks.now_ms(keys.shard), worker=self._worker,
            error="DecodeError", message=str(error), traceback="",
        )  # fmt: skip
        failure = Failure("DecodeError", str(error), "", GiveUp(error.reason))
        outcome = Died(error.reason, failures, started=False)
        self._settle_unread(keys, entry.place, outcome, FailedAttempt(failure, 0, error))

    def _settle_unread(
        self,
        keys: TypeKeys,
        place: str,
        outcome: Outcome,
        failed: FailedAttempt | None = None,
    ) -> None:
        """Settle a delivery that was not decoded."""
        held = Held(Delivery(keys.type, keys.shard, place, place, b"", attempt=0, claims=_UNKNOWN))
        held.done, held.failed = True, failed
        self._in_flight.add(held)
        self._settler.put(held, outcome)

    def _hand_back(self, held: Held) -> None:
        held.done = True
        self._settler.put(held, HandedBack())


def _one_suspect(received: list[Held], suspects: int) -> tuple[list[Held], list[Held]]:
    """Return what may run, so that at most one suspect is in flight, and the rest."""
    kept: list[Held] = []
    rest: list[Held] = []
    for held in received:
        suspect = held.delivery.suspect
        (rest if suspect and suspects else kept).append(held)
        suspects += suspect
    return kept, rest
