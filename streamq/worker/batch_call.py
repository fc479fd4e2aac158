"""The call of a handler with a batch: what becomes of each of its items.

Owns the handler that collects results, and the verdicts on the items. Must not call it.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence

from streamq.item import Item
from streamq.registry.batching import results_of
from streamq.registry.handler import Handler

Verdict = bytes | BaseException
"""The encoded result of an item, or what its attempt failed with."""


class BatchCall:
    """One call of a handler. handler: calls the function with the items; its encoded result is empty."""

    def __init__(self, handler: Handler, items: Sequence[Item[object]]) -> None:
        self._items, self._encode = items, handler.encode_result
        self._returned: object = None
        self.handler: Handler = copy.copy(handler)
        self.handler.function = functools.partial(handler.batch_function, list(items))
        self.handler.__dict__["encode_result"] = self._collect

    def _collect(self, value: object) -> bytes:
        self._returned = value
        return b""

    def verdicts(self) -> list[Verdict]:
        """Return the verdict on each item after the call. Raises PayloadError if a result is missing."""
        results = results_of(self._returned, len(self._items))
        return [
            item.error if item.error is not None else self._encoded(results, n)
            for n, item in enumerate(self._items)
        ]

    def _encoded(self, results: Sequence[object] | None, n: int) -> Verdict:
        try:
            return b"" if results is None else self._encode(results[n])
        except BaseException as error:  # noqa: BLE001 - of one item only
            return error


def marked(items: Sequence[Item[object]]) -> dict[int, Verdict]:
    """Return the verdicts that the handler gave before its call failed, by the number of the item."""
    return {n: item.error for n, item in enumerate(items) if item.error is not None}
