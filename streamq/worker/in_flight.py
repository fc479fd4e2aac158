"""The book of deliveries in hand. Bookkeeping only: no I/O, no clock.

Written by the event loop; read by the lease thread, which takes copies. A delivery is in the book from
its fetch until its settlement is acknowledged: as long as it is, its lease is renewed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from streamq.model.delivery import Delivery
from streamq.model.effect import Effect
from streamq.model.task import SUSPECT
from streamq.worker.failures import Failure

T = TypeVar("T")
Line = tuple[str, int]
"""A task type in a shard: what one renew or settle call is about."""


class Report(NamedTuple):
    """What is to be said of a failed attempt when it is settled. trace: the id of its trace, '' without."""

    failure: Failure
    max_attempts: int
    error: BaseException
    trace: str = ""


class Held:
    """One delivery in hand.

    done: its outcome is decided. fenced: the server does not know it any more as ours, so that nothing is
    settled of it. report: why its attempt failed. effects: what its settlement does besides. ended: when (ms
    by the server's clock) and after how many seconds in the handler, where somebody observes it.
    """

    # Attributes of the class, not of each: one is made for every task, and most never change.
    done = False
    fenced = False
    report: Report | None = None
    effects: tuple[Effect, ...] = ()
    ended: tuple[int, float | None] | None = None

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery

    @property
    def line(self) -> Line:
        return (self.delivery.type, self.delivery.shard)


class InFlight:
    """All deliveries in hand, by line and place."""

    def __init__(self) -> None:
        self._lines: dict[Line, dict[str, Held]] = {}
        self.suspects: int = 0

    def __len__(self) -> int:
        return sum(map(len, list(self._lines.values())))

    def has(self, line: Line, place: str) -> bool:
        return place in self._lines.get(line, ())

    def same(self, delivery: Delivery) -> bool:
        """Whether this very delivery is in hand, handed over a second time since its group was destroyed."""
        held = self._lines.get((delivery.type, delivery.shard), {}).get(delivery.place)
        return held is not None and not held.fenced and held.delivery == delivery

    def add(self, held: Held) -> None:
        place = held.delivery.place
        held_in_line = self._lines.get(held.line)
        if held_in_line is None:
            held_in_line = self._lines[held.line] = {}
        if place[0] == SUSPECT and held.delivery.suspect and place not in held_in_line:
            self.suspects += 1
        held_in_line[place] = held

    def remove(self, line: Line, places: Iterable[str]) -> None:
        held = self._lines.get(line, {})
        for place in places:
            gone = held.pop(place, None)
            if gone is not None and place[0] == SUSPECT and gone.delivery.suspect:
                self.suspects -= 1

    def discard(self, held: Held) -> None:
        """Remove this one, not another that has its place by now."""
        if self._lines.get(held.line, {}).get(held.delivery.place) is held:
            self.remove(held.line, [held.delivery.place])

    def find(self, line: Line, local: str) -> Held | None:
        """The delivery of a task by its local id."""
        return next((held for held in self.snapshot(line) if held.delivery.local == local), None)

    def lines(self) -> list[Line]:
        """The lines of which something was ever held."""
        return list(self._lines)

    def snapshot(self, line: Line) -> list[Held]:
        """A copy, safe to walk in another thread (a dict's values are copied in one step)."""
        return list(self._lines.get(line, {}).values())


def chunks(items: list[T], size: int) -> Iterable[list[T]]:
    return (items[n : n + size] for n in range(0, len(items), size))
