"""Puts the large arguments of calls into the app's blob store, just before the calls are sent.

Owns which calls these are, and how a task says that it has a blob. Blocks while it stores: `aoffloaded` does
that in a thread. Must not send anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import orjson

from streamq import joining
from streamq.app.bound_task import PLAIN, Bound
from streamq.features import BLOBS, needing
from streamq.model.task import NewTask
from streamq.namespace import namespace_of
from streamq.payloads import blobs
from streamq.payloads.blob_store import Blobs
from streamq.payloads.pipeline import key_of

R = TypeVar("R")


def offloaded(bound: Sequence[Bound[R]], app: str, store: Blobs) -> list[Bound[R]]:
    """Return the calls, those with large arguments with a reference to a blob instead. Raises PayloadError if
    some are too large, and BlobStoreError: then nothing was sent, and what was stored is removed after a day.
    """
    return [_moved(one, app, store) if len(one.task.payload) > store.over else one for one in bound]


async def aoffloaded(bound: Sequence[Bound[R]], app: str, store: Blobs) -> list[Bound[R]]:
    """As `offloaded`, from an event loop."""
    if any(len(one.task.payload) > store.over for one in bound):
        import asyncio  # noqa: PLC0415 - it is loaded: this is a coroutine

        return await asyncio.to_thread(offloaded, bound, app, store)
    return list(bound)


def _moved(bound: Bound[R], app: str, store: Blobs) -> Bound[R]:
    name, payload = bound.handler.name, bound.task.payload
    blob = blobs.new_name(app, namespace_of(app).prefix, name)
    stored = blobs.put(store, blob, payload, key_of(payload), f"the arguments of task type {name!r}")
    return replace(bound, task=_claiming(bound.task, stored, blob), route=bound.route or PLAIN)


def _claiming(task: NewTask, reference: bytes, blob: str) -> NewTask:
    """Return a task whose arguments are in this blob, which it claims until it ends."""
    # One that joins nothing yet is asked again where the type's policy has a rule that it does not know.
    told = {**(joining.parts(task.joins) if task.joins else {"unique": True}), "blob": blob}
    fields = needing(task.fields, BLOBS)
    return task._replace(payload=reference, joins=orjson.dumps(told).decode(), fields=fields)
