"""Reads a task's arguments from their blob before an attempt, and stores a large result in one after it.

Owns when that happens, in threads, so that the event loop never waits for a store. Must not decide how an
attempt ends.
"""

from __future__ import annotations

from typing import NamedTuple

from streamq.model.delivery import Delivery
from streamq.model.effect import ResultBlob
from streamq.namespace import namespace_of
from streamq.payloads import blobs
from streamq.payloads.pipeline import blob_of, fetched, key_of
from streamq.registry.handler import Handler
from streamq.worker.own_threads import in_own_thread

LONGER_MS = 60_000
"""So much longer than a result its blob lives: it is not gone while its task is shown."""


class StoredResult(NamedTuple):
    """A result as it is stored, and the blob that it is in."""

    stored: bytes
    effect: ResultBlob | None


async def arguments_of(handler: Handler, payload: bytes) -> bytes:
    """Return a stored payload without a blob. Raises BlobLost, NoBlobs, DecodeError."""
    if blob_of(payload) is None:
        return payload
    return await in_own_thread(fetched, payload, handler.app)


async def result_of(handler: Handler, delivery: Delivery, result: bytes, retention_ms: int) -> StoredResult:
    """Return a result, given as JSON, as it is stored. Raises PayloadError and BlobStoreError."""
    stored, store = handler.stored_result(result, delivery), handler.blobs
    if store is None or len(stored) <= store.over or not retention_ms or delivery.node:
        return StoredResult(stored, None)
    name = blobs.new_name(handler.app, namespace_of(handler.app).prefix, delivery.type)
    what = f"the result of task type {handler.name!r}"
    reference = await in_own_thread(blobs.put, store, name, stored, key_of(stored), what)
    return StoredResult(reference, ResultBlob(name, retention_ms + LONGER_MS))
