"""The book of deliveries in hand. Bookkeeping only: no I/O, no clock.

Written by the event loop; read by the lease thread, which takes copies. A delivery is in the book from
its fetch until its settlement is acknowledged: as long as it is, its lease is renewed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from streamq.context import Context
from streamq.model import SUSPECT, Delivery

Key = tuple[str, int, str]
Stop = Literal["timeout", "cancel", "lost", "shutdown"]


@dataclass(slots=True, eq=False)
class Held:
    """One delivery in hand.

    started, deadline: on the monotonic clock; None before the handler is called, or without a timeout.
    stop: why the handler was told to stop. done: its outcome is decided.
    """

    delivery: Delivery
    started: float | None = None
    started_ms: int = 0
    deadline: float | None = None
    stop: Stop | None = None
    stopped: float = 0.0
    done: bool = False
    context: Context | None = None
    slot: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def key(self) -> Key:
        d = self.delivery
        return (d.type, d.shard, d.place)


class Holdings:
    """All deliveries in hand, by type, shard and place."""

    def __init__(self) -> None:
        self._held: dict[Key, Held] = {}
        self.suspects = 0

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: Key) -> bool:
        return key in self._held

    def add(self, key: Key, held: Held) -> None:
        self._held[key] = held
        self.suspects += key[2][0] == SUSPECT

    def remove(self, key: Key) -> None:
        if self._held.pop(key, None) is not None:
            self.suspects -= key[2][0] == SUSPECT

    def get(self, key: Key) -> Held | None:
        return self._held.get(key)

    def find(self, task_type: str, shard: int, local: str) -> Held | None:
        """The delivery of a task by its local id."""
        for held in self.snapshot():
            d = held.delivery
            if d.local == local and d.type == task_type and d.shard == shard:
                return held
        return None

    def snapshot(self) -> list[Held]:
        """A copy, safe to walk in another thread (a dict's values are copied in one step)."""
        return list(self._held.values())

    def by_type(self) -> dict[tuple[str, int], list[Held]]:
        """What is held, grouped as renew calls want it."""
        groups: dict[tuple[str, int], list[Held]] = {}
        for held in self.snapshot():
            groups.setdefault((held.delivery.type, held.delivery.shard), []).append(held)
        return groups


def chunks(items: list[Held], size: int) -> Iterable[list[Held]]:
    return (items[n : n + size] for n in range(0, len(items), size))
