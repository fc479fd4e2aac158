"""Gathers deliveries of types whose handlers take batches, until one is full, or the first has waited enough.

Owns what is gathered and its timers. Must not run a handler, nor settle: a batch goes to a callable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from streamq.item import Item
from streamq.model.delivery import Delivery
from streamq.payloads.pipeline import BLOB_HEAD
from streamq.registry.handler import Handler
from streamq.worker.attempt import Attempt
from streamq.worker.in_flight import Held

GROUPS: Final = 4
"""Tasks of a type that are gathered at once, in sizes of a batch, if they are grouped by a field."""

Gathered = tuple[Held, Item[object]]


class _Gathering:
    """The deliveries of one batch to be. timer: when it waits no longer."""

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.timer = timer
        self.gathered: list[Gathered] = []
        self.bytes = 0


class Batches:
    """The gathered deliveries of one worker, in its event loop. ready: takes an attempt to run. waiting:
    returns how many batches of a type wait for a slot."""

    def __init__(self, ready: Callable[[Attempt], None], waiting: Callable[[str], int]) -> None:
        self._ready, self._waiting = ready, waiting
        self._gatherings: dict[tuple[str, object], _Gathering] = {}

    @property
    def empty(self) -> bool:
        """Return whether nothing is gathered."""
        return not self._gatherings

    def room_for(self, handler: Handler) -> int:
        """Return how many more deliveries of a type to fetch: none while a batch of it waits for a slot."""
        batch = handler.options.batch
        if batch is None or self._waiting(handler.name):
            return 0
        most = batch.size if batch.by is None else batch.size * GROUPS
        of_type = (one for (name, _), one in self._gatherings.items() if name == handler.name)
        return max(0, most - sum(len(one.gathered) for one in of_type))

    def put(self, handler: Handler, deliveries: list[Held]) -> None:
        """Gather deliveries of a type. What cannot be decoded, and what may kill workers, is run alone."""
        read = handler.read
        for held in deliveries:
            delivery = held.delivery
            if delivery.payload[: len(BLOB_HEAD)] == BLOB_HEAD:  # its attempt reads the blob in a thread
                self._ready(Attempt(held))
                continue
            try:
                args, kwargs = handler.arguments(delivery.payload) if read is None else read(delivery)
            except BaseException:  # noqa: BLE001 - also what a user's model raises: its attempt will tell
                self._ready(Attempt(held))
                continue
            if delivery.suspect:
                self._ready(Attempt(held))
                continue
            value = args[0] if args else next(iter(kwargs.values()))
            self._gather(handler, held, Item(value, str(delivery.id), delivery.attempt))

    def _gather(self, handler: Handler, held: Held, item: Item[object]) -> None:
        batch = handler.options.batch
        if batch is None:
            return
        key = (handler.name, _group(item.value, batch.by))
        size = len(held.delivery.payload)
        found = self._gatherings.get(key)
        if found is not None and found.bytes + size > batch.bytes:
            self._flush(key)
            found = None
        if found is None:
            loop = asyncio.get_running_loop()
            found = _Gathering(loop.call_later(batch.linger_seconds, self._flush, key))
            self._gatherings[key] = found
        found.gathered.append((held, item))
        found.bytes += size
        if len(found.gathered) >= batch.size or found.bytes >= batch.bytes:
            self._flush(key)

    def _flush(self, key: tuple[str, object]) -> None:
        """Have what is gathered run as one attempt."""
        found = self._gatherings.pop(key, None)
        if found is None:
            return
        found.timer.cancel()
        # The first decides whether the attempt starts at all: if it has expired, all have.
        gathered = sorted(found.gathered, key=lambda one: -(one[0].delivery.expires_ms or 1 << 62))
        (first, item), *more = gathered
        attempt = Attempt(first, tuple(held for held, _ in more))
        attempt.items = (item, *(one for _, one in more))
        self._ready(attempt)

    def take(self, which: Callable[[Delivery], bool]) -> list[Held]:
        """Remove deliveries and return them."""
        taken: list[Held] = []
        for key, found in list(self._gatherings.items()):
            taken += [held for held, _ in found.gathered if which(held.delivery)]
            found.gathered = [one for one in found.gathered if not which(one[0].delivery)]
            found.bytes = sum(len(held.delivery.payload) for held, _ in found.gathered)
            if not found.gathered:
                found.timer.cancel()
                del self._gatherings[key]
        return taken


def _group(value: object, by: str | None) -> object:
    """Return the value of the field that items of one batch share."""
    if by is None:
        return None
    found = value.get(by) if isinstance(value, dict) else getattr(value, by, None)
    try:
        hash(found)
    except TypeError:
        return repr(found)
    return found
