"""What was fetched, taken into the book and passed on; or handed back, or buried where nobody can read it.
A task that a newer release wrote is handed back late, for a worker that can run it.

Owns that first decision about a delivery. Fetches nothing and runs nothing.
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
from streamq.worker.in_flight import Held, InFlight, Report
from streamq.worker.runner import Runner
from streamq.worker.settler import Settler
from streamq.worker.too_new import TooNewTasks


class Receiver:
    """Of one worker process. `closed`: whether what comes is to be handed back, of a type or at all."""

    def __init__(
        self,
        worker: str,
        in_flight: InFlight,
        runner: Runner,
        settler: Settler,
        closed: Callable[[TypeKeys], bool],
        behind: TooNewTasks,
    ) -> None:
        self._worker = worker
        self._in_flight, self._runner, self._settler = in_flight, runner, settler
        self._closed = closed
        self._behind = behind

    async def deliver(self, found: FetchedByType) -> None:
        """Take what was fetched into the book and pass it on."""
        now_ms, parts = found
        if now_ms:
            self._runner.clocks.set(parts[0][0].keys.shard if parts else 0, now_ms)
        suspects = self._in_flight.suspects
        for source, entries in parts:
            received = [held for entry in entries if (held := self._receive(source.keys, entry))]
            too_many: list[Held] = []
            if self._closed(source.keys) or self._runner.is_alone:
                received, too_many = [], received
            elif source.letter == SUSPECT:
                received, too_many = _one_suspect(received, suspects)
            suspects = self._in_flight.suspects
            self._runner.put(received)
            for held in too_many:
                self._give_back(held)
        if suspects > 1:
            # Only then is the one that stays alone, as a task that kills its worker must be.
            await self._settler.flush(parts[0][0].keys.shard)

    def recovered(self, keys: TypeKeys, places: list[str]) -> None:
        """Hand back what was delivered to us and never arrived."""
        for place in places:
            self._settle_unread(keys, place, HandedBack())

    def _receive(self, keys: TypeKeys, entry: Entry) -> Held | None:
        """The entry as a delivery in the book; None where nobody can read it, or where it runs already."""
        try:
            held = Held(envelope.decode(keys.type, keys.shard, entry))
        except envelope.TooNew as error:
            delay_ms = self._behind.delay_ms(keys.type, error)
            outcome = HandedBack(False, delay_ms, error.times + 1)
            self._settle_unread(keys, entry.place, outcome, claims=_claims(entry))
            return None
        except DecodeError as error:
            self._undecodable(keys, entry, error)
            return None
        if self._in_flight.same(held.delivery):
            return None
        self._in_flight.add(held)
        return held

    def _undecodable(self, keys: TypeKeys, entry: Entry, error: DecodeError) -> None:
        """An entry nobody can read: a dead letter, with everything that is in it."""
        failures = envelope.add_failure(
            b"", attempt=0, at_ms=self._runner.clocks.now_ms(keys.shard), worker=self._worker,
            error="DecodeError", message=str(error), traceback="",
        )  # fmt: skip
        failure = Failure("DecodeError", str(error), "", GiveUp(error.reason))
        outcome = Died(error.reason, failures, started=False)
        self._settle_unread(keys, entry.place, outcome, Report(failure, 0, error), _claims(entry))

    def _settle_unread(
        self,
        keys: TypeKeys,
        place: str,
        outcome: Outcome,
        report: Report | None = None,
        claims: bytes = b"",
    ) -> None:
        held = Held(Delivery(keys.type, keys.shard, place, place, b"", attempt=0, claims=claims))
        held.done, held.report = True, report
        self._in_flight.add(held)
        self._settler.put(held, outcome)

    def _give_back(self, held: Held) -> None:
        held.done = True
        self._settler.put(held, HandedBack())


def _claims(entry: Entry) -> bytes:
    """What an entry that cannot be run holds: it is given back all the same."""
    raw = entry.fields or ()
    return next((raw[n + 1] for n in range(0, len(raw) - 1, 2) if raw[n] == b"c"), b"")


def _one_suspect(received: list[Held], suspects: int) -> tuple[list[Held], list[Held]]:
    """What may run, with at most one suspect beside those that are in hand already; and the rest."""
    kept: list[Held] = []
    rest: list[Held] = []
    for held in received:
        alone = held.delivery.suspect
        (rest if alone and suspects else kept).append(held)
        suspects += alone
    return kept, rest
