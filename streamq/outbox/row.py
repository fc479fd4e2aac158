"""One row of an outbox: a call that was bound, with what its sending needs.

Owns the stored form. Must not send anything, nor know a database. What stands in a table is input: a row that
cannot be read raises DecodeError.
"""

from __future__ import annotations

import os
import time
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson

from streamq import envelope
from streamq.app.app import StreamQ
from streamq.app.batch import checked
from streamq.app.bound_task import Bound, Route, remote_handler
from streamq.errors import DecodeError, InvalidOption
from streamq.locks import throttle_name
from streamq.model.task import PRIORITIES, IdempotencyKey, NewTask
from streamq.payloads.pipeline import opened

_THROTTLE: Final = throttle_name("", "").partition(":")[0] + ":"


@dataclass(frozen=True, slots=True)
class Row:
    """A row. app, type: of its task. options: how it is sent, as JSON. Times are ms since the epoch;
    not_before_ms is None for a parked row, which is not sent. tries: refusals so far; error: the last one."""

    id: UUID
    app: str
    type: str
    payload: bytes
    options: str
    created_ms: int
    not_before_ms: int | None
    tries: int = 0
    error: str = ""


def key_of(row_id: UUID) -> str:
    """Return the idempotency key of a row's task."""
    return f"outbox:{row_id}"


def now_ms() -> int:
    """Return the time by this host's clock."""
    return round(time.time() * 1000)


def new_id() -> UUID:
    """Return a UUID of version 7: ids of later rows are greater, which keeps their index dense."""
    raw = bytearray(now_ms().to_bytes(6, "big") + os.urandom(10))
    raw[6] = raw[6] & 0x0F | 0x70
    raw[8] = raw[8] & 0x3F | 0x80
    return UUID(bytes=bytes(raw))


def rows_of(app: StreamQ, calls: Iterable[Bound[object]]) -> list[Row]:
    """Return calls as rows. Raises InvalidArguments for a call of another app, and InvalidOption."""
    listed = checked(list(calls), app.registry.name, app.registry.handlers)
    return [_row(app.name, call) for call in listed]


def _row(app: str, call: Bound[object]) -> Row:
    task, now = call.task, now_ms()
    if task.key is not None and task.key.name.startswith(_THROTTLE):
        raise InvalidOption(
            f"task type {call.handler.name!r} is throttled, which takes the place of the idempotency key "
            "that the outbox needs: pass throttle=None, or enqueue it after the commit"
        )
    due, absolute = task.due, task.absolute
    if due is not None and not absolute and not task.joins:  # a debounce counts from when it is sent
        due, absolute = now + due, True
    stored: dict[str, object] = {"digest": envelope.digest(call.handler.name, opened(task.payload)).hex()}
    if task.priority != "normal":
        stored["priority"] = task.priority
    if due is not None:
        stored["due"] = [due, absolute]
    if task.fields:
        stored["fields"] = [[name, _packed(value)] for name, value in task.fields]
    if task.joins:
        stored["joins"] = task.joins
    if task.key is not None:
        stored["key"] = [task.key.name, task.key.digest.hex(), task.key.window_ms]
    if call.route is not None:
        stored["route"] = list(call.route)
    return Row(new_id(), app, call.handler.name, task.payload, orjson.dumps(stored).decode(), now, now)


def _packed(value: bytes | str) -> str | list[str]:
    return value if isinstance(value, str) else [b64encode(value).decode()]


def _unpacked(value: Any) -> bytes | str:
    return value if isinstance(value, str) else b64decode(value[0], validate=True)


def call_of(app: StreamQ, row: Row, window_ms: int) -> Bound[object]:
    """Return the call of a row, under the key of the row unless it has a key of its own. Raises
    DecodeError."""
    try:
        stored = orjson.loads(row.options)
        key = stored.get("key")
        due, absolute = stored.get("due", (None, False))
        name, digest, window = key or (key_of(row.id), stored["digest"], window_ms)
        task = NewTask(
            row.payload,
            PRIORITIES[PRIORITIES.index(stored.get("priority", "normal"))],
            None if due is None else int(due),
            bool(absolute),
            tuple((str(name), _unpacked(value)) for name, value in stored.get("fields", ())),
            IdempotencyKey(str(name), bytes.fromhex(digest), int(window)),
            str(stored.get("joins", "")),
        )
        route = Route(*stored["route"]) if "route" in stored else Route(None, "master")
        return Bound(app.registry.handlers.get(row.type) or remote_handler(row.type), task, route)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, InvalidOption) as error:
        raise DecodeError(f"row {row.id} cannot be read: {type(error).__name__}: {error}") from None
