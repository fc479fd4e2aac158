"""The deliveries in flight. Bookkeeping only: must not do I/O or read a clock.

Written by the event loop, read by the lease thread, which takes copies. A delivery is in flight from its
fetch until Redis acknowledges its settlement; during that time its lease is renewed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from streamq.model.delivery import Delivery
from streamq.model.effect import Effect
from streamq.model.task import SUSPECT
from streamq.worker.failures import Failure

T = TypeVar("T")
TypeShard = tuple[str, int]
"""A task type and a shard: the scope of one renew or settle call."""


class FailedAttempt(NamedTuple):
    """The details of a failed attempt, logged once it is settled. trace: its trace id; '' without tracing."""

    failure: Failure
    max_attempts: int
    error: BaseException
    trace: str = ""


class Held:
    """One delivery in flight.

    done: its outcome is decided. fenced: Redis no longer assigns it to this worker, so it must not be
    settled. failed: why its attempt failed. effects: what its settlement changes besides the task. ended:
    when it ended (ms by the server's clock) and after how many seconds in the handler, if there are
    observers.
    """

    # Class attributes are the defaults: one is created per task, and most of these never change.
    done = False
    fenced = False
    failed: FailedAttempt | None = None
    effects: tuple[Effect, ...] = ()
    ended: tuple[int, float | None] | None = None

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery

    @property
    def type_shard(self) -> TypeShard:
        return (self.delivery.type, self.delivery.shard)


class InFlight:
    """All deliveries in flight, by type and shard, then by place."""

    def __init__(self) -> None:
        self._held: dict[TypeShard, dict[str, Held]] = {}
        self.suspects: int = 0

    def __len__(self) -> int:
        return sum(map(len, list(self._held.values())))

    def has(self, type_shard: TypeShard, place: str) -> bool:
        """Return whether a delivery with this place is in flight."""
        return place in self._held.get(type_shard, ())

    def holds(self, delivery: Delivery) -> bool:
        """Return whether this very delivery is in flight. A destroyed group delivers it a second time."""
        held = self._held.get((delivery.type, delivery.shard), {}).get(delivery.place)
        return _is_same(held, delivery)

    def add(self, held: Held) -> bool:
        """Add a delivery. Return False, and change nothing, if this very one is in flight."""
        delivery = held.delivery
        place, type_shard = delivery.place, (delivery.type, delivery.shard)
        by_place = self._held.get(type_shard)
        if by_place is None:
            by_place = self._held[type_shard] = {}
        elif place in by_place and _is_same(by_place[place], delivery):
            return False
        if place[0] == SUSPECT and delivery.suspect and place not in by_place:
            self.suspects += 1
        by_place[place] = held
        return True

    def remove(self, type_shard: TypeShard, places: Iterable[str]) -> None:
        """Remove the deliveries with these places."""
        held = self._held.get(type_shard, {})
        for place in places:
            removed = held.pop(place, None)
            if removed is not None and place[0] == SUSPECT and removed.delivery.suspect:
                self.suspects -= 1

    def discard(self, held: Held) -> None:
        """Remove this delivery, but not another one that has its place by now."""
        if self._held.get(held.type_shard, {}).get(held.delivery.place) is held:
            self.remove(held.type_shard, [held.delivery.place])

    def find(self, type_shard: TypeShard, local: str) -> Held | None:
        """Return the delivery of a task by its local id."""
        return next((held for held in self.snapshot(type_shard) if held.delivery.local == local), None)

    def type_shards(self) -> list[TypeShard]:
        """Return every type and shard that has had a delivery in flight."""
        return list(self._held)

    def snapshot(self, type_shard: TypeShard) -> list[Held]:
        """Return a copy that another thread may iterate (a dict's values are copied atomically)."""
        return list(self._held.get(type_shard, {}).values())


def _is_same(held: Held | None, delivery: Delivery) -> bool:
    return held is not None and not held.fenced and held.delivery == delivery


def chunks(items: list[T], size: int) -> Iterable[list[T]]:
    """Return the items in lists of at most `size`."""
    return (items[n : n + size] for n in range(0, len(items), size))
