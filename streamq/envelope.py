"""The envelope: converts a task to the fields of its stream entry and back.

Owns the names of the fields and the version of the format. Damaged bytes raise DecodeError, with a reason
for the dead letter; a task of a newer release that this one cannot run correctly raises TooNew. Must not know
a handler, nor Redis.

| field | meaning | present |
| --- | --- | --- |
| p | payload: a JSON object of the arguments by name | always |
| i | local id | the task has moved: promoted, retried, reclaimed, requeued |
| a | attempts that failed so far | after a retry |
| l | deliveries lost in a row | after a reclaim |
| q | letter of the priority | in the stream of suspects |
| e | enqueued at, ms | the task began in the schedule |
| x | expires at, ms | the task has a lifetime |
| m | the options of the call that override the policy, JSON | there are any |
| f | the errors of all attempts, JSON | after a failed or lost attempt |
| t | trace context: W3C traceparent, or a JSON object with tracestate and baggage | the app is traced |
| o | local id of a dead letter | it replaces that one (edit and requeue), or had its id when it died |
| v | version of the envelope | it is not 1 |
| z | how the payload is encoded, names with commas, the outermost first | it is not plain JSON |
| N | features that the policy asks for, names with commas | it asks for any |
| c | what it holds until it ends: a lock, a slot (see `lua/lib/end_task.lua`) | it holds anything |
| w | cost: what it counts for in rates and shares | it is not 1, and the task has a lane |
| g | fence: grows with every start in an ordered lane | the lane is ordered |
| k | how often the task was handed back by workers too old for it | it was |
| y | node: flow, number, and what it needs of others (see `flows.needs`) | it is a node of a flow |
| b | by: the id of the task whose handler enqueued it | it is a follow-up |
| V | version of the payload | it is not 1 |
| n | how often it has gone on as a new run | it has |
| r | run: the name of a schedule, @, and the time that the run is for, ms | a schedule made it |

A worker must know a field whose name begins with a capital letter, and the values of v, z and N (see
`features`). It ignores any other field that it does not know, and keeps it.

Payload and result are JSON, or sealed (see `payloads.pipeline`). Of a failure, the message and the traceback
may be sealed, under the name `sealed` and in base64, as scripts read lists of failures.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from streamq import features
from streamq.depth import too_deep
from streamq.errors import DecodeError
from streamq.model.delivery import Delivery, Entry, Overrides
from streamq.model.task import LOCAL_PATTERN
from streamq.options.table import STORED
from streamq.payloads.pipeline import Pipeline, key_of, pipeline_of
from streamq.payloads.pipeline import opened as opened_payload
from streamq.payloads.stage import About

PARENT: Final = "b"
"""The field with the id of the task whose handler enqueued this one as a follow-up."""
Failure = dict[str, Any]
"""An attempt's error as JSON; see `add_failure` for its names. One that another program wrote may hold
anything."""
_new: Final = tuple.__new__
MOST_VALUES: Final = 200
"""Names and values in one entry: streamq writes 24 at most, and Lua can append a few thousand."""
_MOST_FAILURES: Final = 10
_TEXT_LIMIT: Final = 4096
MESSAGE_LIMIT: Final = 1024
"""Characters that are stored of an error's message."""
_MOST: Final = 1e10
_IGNORABLE: Final = frozenset((
    b"p", b"i", b"a", b"l", b"q", b"e", b"x", b"m", b"f", b"t", b"o", b"k", b"c", b"r", b"w", b"g",
    b"V", b"y", b"n",
))  # fmt: skip
"""The fields that need no feature."""
_FEATURE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,59}", re.ASCII)


class TooNew(DecodeError):
    """A task of a newer release that this one must not run. needs: the missing feature. times: how often the
    task was handed back for that."""

    def __init__(self, needs: str, times: int) -> None:
        super().__init__(f"the task needs {needs}, which this release does not have", reason="version")
        self.needs = needs
        self.times = times


def digest(task_type: str, payload: bytes, secret: bytes = b"") -> bytes:
    """Return 16 bytes that differ for different tasks with one idempotency key. The order of the arguments'
    names does not count. secret: without it nobody can find out which arguments these are by trying."""
    from hashlib import blake2b  # noqa: PLC0415 - few calls have a key

    in_order = orjson.dumps(orjson.loads(payload), option=orjson.OPT_SORT_KEYS)
    return blake2b(task_type.encode() + b":" + in_order, digest_size=16, key=secret).digest()


_PLAIN: Final = tuple(Delivery._field_defaults.values())
"""What follows the payload in a delivery whose entry holds nothing else."""


def decode(task_type: str, shard: int, entry: Entry) -> Delivery:
    """Read a stream entry. Raises DecodeError with a reason (foreign, undecodable), and TooNew if another
    release can read it."""
    raw = entry.fields
    if raw is None:
        raise DecodeError("the entry was deleted while it was delivered", reason="vanished")
    place = entry.letter + entry.entry
    if len(raw) == 2 and raw[0] == b"p":
        # Nearly every task: it has not moved and differs in nothing from its type's policy.
        # Made without the function that fills in defaults, which would cost three times as much.
        # An unpacked tuple would take longer than this sum.
        return _new(Delivery, (task_type, shard, place, place, raw[1]) + _PLAIN)  # noqa: RUF005
    if len(raw) > MOST_VALUES:
        raise DecodeError(f"the entry has {len(raw):,} names and values, the limit is {MOST_VALUES}")
    try:
        return _decode(task_type, shard, place, dict(zip(raw[::2], raw[1::2], strict=True)))
    except DecodeError:
        raise
    except (ValueError, TypeError, UnicodeDecodeError) as error:
        raise DecodeError(f"the entry's fields are damaged: {error}") from error


def _decode(task_type: str, shard: int, place: str, have: dict[bytes, bytes]) -> Delivery:
    if not have.keys() <= _IGNORABLE:
        _check_features(have)
    if (payload := have.get(b"p")) is None:
        raise DecodeError("the entry has no payload: another program wrote it", reason="foreign")
    local = have[b"i"].decode() if b"i" in have else place
    if not LOCAL_PATTERN.fullmatch(local):
        raise DecodeError(f"field i is not the id of a task: {local[:80]!r}")
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
        claims=have.get(b"c", b""),
        run=have.get(b"r", b""),
        fence=_number(have, b"g"),
        version=_number(have, b"V") if b"V" in have else 1,
        handed_back=_number(have, b"k"),
        node=have.get(b"y", b""),
        generation=_number(have, b"n"),
    )


def _check_features(have: Mapping[bytes, bytes]) -> None:
    if b"v" in have or b"p" in have:  # otherwise streamq did not write it
        needs = features.missing(_needs(have))
        if needs:
            raise TooNew(needs, min(_number(have, b"k"), 1000))


def _needs(have: Mapping[bytes, bytes]) -> Iterator[str]:
    """Yield the features that an envelope needs."""
    if b"v" in have:
        yield f"envelope:{max(1, _number(have, b'v'))}"
    for name, prefix in ((b"z", "payload:"), (b"N", "")):
        if name in have:
            yield from (prefix + _feature(word) for word in have[name].split(b","))
    for name in sorted(have.keys() - _IGNORABLE - {b"v", b"z", b"N"}):
        if name[:1].isupper():
            yield f"field:{_feature(name)}"


def _feature(raw: bytes) -> str:
    found = raw.decode("ascii", "replace")
    if not _FEATURE.fullmatch(found):
        raise DecodeError(f"the envelope needs {found[:80]!r}, which is not the name of a feature")
    return found


def _number(have: Mapping[bytes, bytes], name: bytes) -> int:
    raw = have.get(name, b"0")
    if not raw.isdigit() or len(raw) > 15:
        raise DecodeError(f"field {name.decode()} is not a number: {raw[:80]!r}")
    return int(raw)


def _overrides(raw: bytes) -> Overrides:
    stored = orjson.loads(raw)
    if not isinstance(stored, dict):
        raise DecodeError("field m is not a JSON object")
    # A newer producer may set options that this worker does not know: they are ignored.
    known: dict[str, Any] = {name: stored.get(name) for name in STORED}
    for name, value in known.items():
        if value is not None and not _possible(name, value):
            raise DecodeError(f"field m holds {name}={str(value)[:80]}, which is not a valid option")
    return Overrides(**known)


def _possible(name: str, value: object) -> bool:
    least, kind = STORED[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not isinstance(value, kind):
        return False
    return least <= value <= _MOST


def encode_overrides(overrides: Overrides) -> bytes:
    """Return the options of a call as JSON."""
    return orjson.dumps({name: value for name, value in overrides._asdict().items() if value is not None})


def failures(raw: bytes, app: str = "", task_type: str = "") -> list[Failure]:
    """Return the errors of all attempts of a task; an empty list if the field is damaged. app: its name, with
    the key ring that sealed ones are opened with."""
    return [_unsealed(item, app, task_type) if "sealed" in item else item for item in _items(raw)]


def _items(raw: bytes) -> list[Failure]:
    """Return the failures as they are stored."""
    try:
        listed = orjson.loads(raw) if raw and not too_deep(raw) else []
    except ValueError:
        return []
    if not isinstance(listed, list):
        return []
    return [item for item in listed if isinstance(item, dict)]


def add_failure(  # noqa: PLR0913 - one for each field
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
    frame: dict[str, object] | None = None,
    path: str = "",
    sealed: tuple[Pipeline, About] | None = None,
) -> bytes:
    """Return the list with one more failure: the first and the latest are kept, and long texts are cut (of a
    traceback the start, as its end says most). wait_ms: from ready to started; run_ms: in the handler; None
    if it was not started. frame: the frame that raised it, as data. path: of its class, `module.Class`.
    sealed: the stages for the texts of the new one, and what it is."""
    listed = _items(raw)
    times = {} if run_ms is None else {"wait_ms": wait_ms, "run_ms": run_ms}
    texts = {
        "message": clean(message[:MESSAGE_LIMIT]),
        "traceback": clean(traceback[-_TEXT_LIMIT:]),
    }
    listed.append(
        {
            "attempt": attempt,
            "at_ms": at_ms,
            **times,
            "worker": worker,
            "error": clean(error[:200]),
            **({"class": clean(path[:300])} if path else {}),
            **_stored(texts, frame, sealed),
        }
    )
    if len(listed) > _MOST_FAILURES:
        del listed[1 : len(listed) - _MOST_FAILURES + 1]
    return orjson.dumps(listed)


def _stored(
    texts: dict[str, str], frame: dict[str, object] | None, sealed: tuple[Pipeline, About] | None
) -> dict[str, object]:
    """Return the texts of a failure and its frame, which stays readable: dead letters are grouped by it."""
    place = {} if frame is None else {"frame": frame}
    if sealed is None:
        return {**texts, **place}
    pipeline, about = sealed
    found = b64encode(pipeline.seal(orjson.dumps(texts), about)).decode()
    return {"sealed": found, **place}


def _unsealed(item: Failure, app: str, task_type: str) -> Failure:
    """Return a failure with its texts; if they cannot be read, with the reason as its message."""
    try:
        about = About(app, task_type, "failure")
        texts = orjson.loads(opened_payload(b64decode(item["sealed"], validate=True), about))
    except (DecodeError, ValueError, TypeError) as error:
        texts = {"message": str(error), "traceback": ""}
    rest = {name: value for name, value in item.items() if name != "sealed"}
    return {**rest, **texts} if isinstance(texts, dict) else rest


def failure_keys(raw: bytes) -> Iterator[str]:
    """Yield the ids of the keys that failures are sealed with."""
    for item in _items(raw):
        try:
            key = key_of(b64decode(item.get("sealed", ""), validate=True))
        except (ValueError, TypeError):
            continue
        if key:
            yield key


def resealed(raw: bytes, about: About) -> bytes:
    """Return the list with its sealed texts sealed anew, with the current key. Raises DecodeError."""
    items = _items(raw)
    for item in items:
        if "sealed" in item:
            stored = b64decode(item["sealed"])
            if key_of(stored) and (pipeline := pipeline_of(stored)) is not None:
                item["sealed"] = b64encode(pipeline.seal(opened_payload(stored, about), about)).decode()
    return orjson.dumps(items) if items else raw


def clean(text: str) -> str:
    """Return text that JSON can represent: an exception's message may have lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")


def fields_dict(raw: Sequence[bytes]) -> dict[str, bytes]:
    """Return stored fields by name, for people to read. Never raises."""
    return {raw[n].decode("utf-8", "replace"): raw[n + 1] for n in range(0, len(raw) - 1, 2)}
