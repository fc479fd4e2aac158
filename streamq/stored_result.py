"""The stored form of results: the JSON, with a record of the attempt that completed the task.

Owns that format. Must not know a handler, nor Redis.

A stored result is the JSON, a byte that JSON never contains, and a record of the attempt: the last six hex
digits of the worker's name, the attempt, ms of waiting and running, and, of a task that has moved, when it
became ready. A result without that record is one of an older release.
"""

from __future__ import annotations

import struct
from typing import Final

from streamq.model.delivery import Delivery, Success
from streamq.payloads.pipeline import SEALED, sealed_length

_NOTE_BEGINS: Final = b"\x1e"
_NOTE: Final = struct.Struct("<c3sBII")
"""13 bytes: with it a result of None, otherwise stored as nothing, takes 8 more bytes of the server."""
_READY: Final = struct.Struct("<Q")
_LONGEST: Final = 2**32 - 1
"""Ms: 49 days, also for longer times."""


def worker_mark(name: str) -> bytes:
    """Return what is stored of a worker's name: the digits at its end that no other worker has."""
    try:
        return bytes.fromhex(name[-6:]).rjust(3, b"\0")
    except ValueError:
        return b"\0\0\0"


def pack_result(result: bytes, delivery: Delivery, mark: bytes, started_ms: int, run_ms: int) -> bytes:
    """Return a result as it is stored. Called for every task whose result is kept."""
    place = delivery.place
    ready_ms = int(place[1 : place.index("-")])
    wait_ms = started_ms - ready_ms if started_ms > ready_ms else 0
    try:
        note = _NOTE.pack(_NOTE_BEGINS, mark, delivery.attempt, wait_ms, run_ms)
    except struct.error:
        numbers = (min(delivery.attempt, 255), min(wait_ms, _LONGEST), min(run_ms, _LONGEST))
        note = _NOTE.pack(_NOTE_BEGINS, mark, *numbers)
    return result + note if delivery.local == place else result + note + _READY.pack(ready_ms)


def unpack_result(local: str, stored: bytes) -> tuple[bytes, Success | None]:
    """Return the JSON of a stored result ('' for None), and the attempt if that was stored."""
    if stored[:1] == SEALED and (length := sealed_length(stored)):
        result, note = stored[:length], stored[length:]
    else:
        result, begins, note = stored.partition(_NOTE_BEGINS)
        note = begins + note
    if len(note) < _NOTE.size:
        return result, None
    _, mark, attempt, wait_ms, run_ms = _NOTE.unpack_from(note)
    moved = len(note) >= _NOTE.size + _READY.size
    ready_ms = _READY.unpack_from(note, _NOTE.size)[0] if moved else _stamp(local)
    return result, Success(attempt, min(ready_ms, 2**52) + wait_ms + run_ms, wait_ms, run_ms, mark.hex())


def _stamp(local: str) -> int:
    number = local[1:].partition("-")[0]
    return int(number) if number.isascii() and number.isdigit() and len(number) < 17 else 0
