"""The envelope: a task <-> the fields of its stream entry.

Owns the names of the fields and the version of the format. Garbage raises DecodeError, with a reason
for the dead letter; it never crashes a loop. Knows no handler and no Redis.

| field | meaning | present |
| --- | --- | --- |
| p | payload: a JSON object of the arguments by name | always |
| i | local id | the task has moved: promoted, retried, reclaimed, requeued |
| a | attempts that failed so far | after a retry |
| l | deliveries lost in a row | after a reclaim |
| q | letter of the priority | in the stream of suspects |
| e | enqueued at, ms | the task began in the schedule |
| x | expires at, ms | the task has a lifetime |
| m | what the call set otherwise than the policy, JSON | it did |
| f | the errors of all attempts, JSON | after a failed or lost attempt |
| t | trace context: W3C traceparent, or a JSON object with tracestate and baggage | the app is traced |
| o | local id of a dead letter | it was made from that one (edit and requeue), or had its id when it died |
| v | version of the envelope | it is not 1 |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from streamq.errors import DecodeError
from streamq.model import LOCAL_PATTERN, Delivery, Entry, Overrides

_new: Final = tuple.__new__
VERSION: Final = 1
MOST_VALUES: Final = 200
"""Names and values in one entry; ours have 22 at most, and Lua can append no more than some thousand."""
_MOST_FAILURES: Final = 10
_TEXT_LIMIT: Final = 4096
_LEAST: Final[dict[str, tuple[float, Any]]] = {
    "timeout": (0.001, int | float), "max_attempts": (1, int), "retention": (0, int | float),
}  # fmt: skip
_MOST: Final = 1e10


def digest(task_type: str, payload: bytes) -> bytes:
    """16 bytes that tell a task from others of its idempotency key. The order of the arguments' names is
    the caller's whim and does not count."""
    from hashlib import blake2b  # noqa: PLC0415 - few calls have a key

    in_order = orjson.dumps(orjson.loads(payload), option=orjson.OPT_SORT_KEYS)
    return blake2b(task_type.encode() + b":" + in_order, digest_size=16).digest()


def decode(task_type: str, shard: int, entry: Entry) -> Delivery:
    """Read a stream entry; DecodeError says why it cannot be (reasons: foreign, version, undecodable)."""
    raw = entry.fields
    if raw is None:
        raise DecodeError("the entry was deleted while it was delivered", reason="vanished")
    place = entry.letter + entry.entry
    if len(raw) == 2 and raw[0] == b"p":
        # Nearly every task: it has not moved and differs in nothing from its type's policy.
        # Made without the function that fills in defaults, which would cost three times as much.
        return _new(Delivery, (task_type, shard, place, place, raw[1], 1, 0, None, None, None, b"", b""))
    if len(raw) > MOST_VALUES:
        raise DecodeError(f"the entry has {len(raw):,} names and values, the limit is {MOST_VALUES}")
    try:
        return _decode(task_type, shard, place, dict(zip(raw[::2], raw[1::2], strict=True)))
    except DecodeError:
        raise
    except (ValueError, TypeError, UnicodeDecodeError) as error:
        raise DecodeError(f"the entry's fields are damaged: {error}") from error


def _decode(task_type: str, shard: int, place: str, have: dict[bytes, bytes]) -> Delivery:
    if (version := int(have.get(b"v", b"1"))) > VERSION:
        raise DecodeError(f"the entry has version {version}, this streamq reads {VERSION}", reason="version")
    if (payload := have.get(b"p")) is None:
        raise DecodeError("the entry has no payload: something else wrote it", reason="foreign")
    local = have[b"i"].decode() if b"i" in have else place
    if not LOCAL_PATTERN.fullmatch(local):
        raise DecodeError(f"field i is no task's id: {local[:80]!r}")
    return Delivery(
        type=task_type,
        shard=shard,
        place=place,
        local=local,
        payload=payload,
        attempt=_number(have, b"a") + 1,
        lost=_number(have, b"l"),
        accepted_ms=_number(have, b"e") if b"e" in have else None,
        expires_ms=_number(have, b"x") if b"x" in have else None,
        overrides=_overrides(have[b"m"]) if b"m" in have else None,
        failures=have.get(b"f", b""),
        trace=have.get(b"t", b""),
    )


def _number(have: dict[bytes, bytes], name: bytes) -> int:
    raw = have.get(name, b"0")
    if not raw.isdigit() or len(raw) > 15:
        raise DecodeError(f"field {name.decode()} is not a number: {raw[:80]!r}")
    return int(raw)


def _overrides(raw: bytes) -> Overrides:
    stored = orjson.loads(raw)
    if not isinstance(stored, dict):
        raise DecodeError("field m is not a JSON object")
    # A newer producer may set more than this worker knows: take what is known.
    known = {name: stored.get(name) for name in ("timeout", "max_attempts", "retention")}
    for name, value in known.items():
        if value is not None and not _possible(name, value):
            raise DecodeError(f"field m holds {name}={str(value)[:80]}, which no call can have set")
    return Overrides(**known)


def _possible(name: str, value: Any) -> bool:
    least, kind = _LEAST[name]
    return isinstance(value, kind) and not isinstance(value, bool) and least <= value <= _MOST


def encode_overrides(overrides: Overrides) -> bytes:
    return orjson.dumps({name: value for name, value in overrides._asdict().items() if value is not None})


def failures(raw: bytes) -> list[dict[str, Any]]:
    """The errors of all attempts; an empty list where the field is damaged."""
    try:
        listed = orjson.loads(raw) if raw else []
    except ValueError:
        return []
    if not isinstance(listed, list):
        return []
    return [item for item in listed if isinstance(item, dict)]


def add_failure(
    raw: bytes,
    *,
    attempt: int,
    at_ms: int,
    worker: str,
    error: str,
    message: str,
    traceback: str,
    wait_ms: int | None = None,
    run_ms: int | None = None,
) -> bytes:
    """The list with one more: the first and the latest are kept, long texts are cut (the tail of a
    traceback tells most). wait_ms: from ready to started; run_ms: in the handler; None where it was not
    started."""
    listed = failures(raw)
    times = {} if run_ms is None else {"wait_ms": wait_ms, "run_ms": run_ms}
    listed.append(
        {
            "attempt": attempt,
            "at_ms": at_ms,
            **times,
            "worker": worker,
            "error": _clean(error[:200]),
            "message": _clean(message[:1024]),
            "traceback": _clean(traceback[-_TEXT_LIMIT:]),
        }
    )
    if len(listed) > _MOST_FAILURES:
        del listed[1 : len(listed) - _MOST_FAILURES + 1]
    return orjson.dumps(listed)


def _clean(text: str) -> str:
    """Text that JSON can hold: an exception's message may have lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")


def fields_dict(raw: Sequence[bytes]) -> dict[str, bytes]:
    """Stored fields by name, for people to read: never raises."""
    return {raw[n].decode("utf-8", "replace"): raw[n + 1] for n in range(0, len(raw) - 1, 2)}
