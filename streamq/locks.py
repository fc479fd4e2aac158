"""The lock of a unique key: which one a call asks for, and how the enqueue script is told.

Owns the digests of keys, and the JSON that the script reads. Does no I/O.
"""

from __future__ import annotations

import re
from typing import Final

import orjson

from streamq.features import UNIQUE, needing
from streamq.keys import GROUP
from streamq.model.task import IdempotencyKey, NewTask
from streamq.options.unique_plan import Plan

_CLAIM: Final = re.compile(rb"\xa1u\xb0([\x00-\xff]{16})", re.DOTALL)
"""MessagePack: the text u, then a text of 16 bytes."""
NO_LOCK: Final = "{}"
"""The `joins` of a task without a lock, of a type whose tasks may have one."""
_TRAILING: Final = '{"trailing":1}'
"""The `joins` of a throttled task, if the last call within the interval runs at its end."""


def digest(task_type: str, plan: Plan, payload: bytes, secret: bytes = b"") -> bytes:
    """Return 16 bytes that name a key of a task type: from a text, from some arguments, or from all. secret:
    the app's key of digests, empty if it has none.

    The order of the arguments does not matter. An argument that is left at its default counts as absent.
    """
    from hashlib import blake2b  # noqa: PLC0415 - few calls have a key

    if plan.key is not None:
        return blake2b(task_type.encode() + b"#" + plan.key.encode(), digest_size=16, key=secret).digest()
    given = orjson.loads(payload)
    wanted = {name: given[name] for name in plan.by if name in given} if plan.by else given
    in_order = orjson.dumps(wanted, option=orjson.OPT_SORT_KEYS)
    return blake2b(task_type.encode() + b":" + in_order, digest_size=16, key=secret).digest()


def throttle_name(task_type: str, key: str) -> str:
    """Return the idempotency key that stands for a throttled unique key."""
    return f"throttle:{task_type}:{key}"


def claimed(packed: bytes) -> bytes:
    """Return the digest of the lock in a task's claims, as the scripts pack them; empty if there is none."""
    found = _CLAIM.search(packed)
    return found[1] if found else b""


def joined(
    task_type: str, task: NewTask, plan: Plan, payload: bytes, secret: bytes = b""
) -> tuple[NewTask, str | None]:
    """Return the task with the lock, or the key of a throttle, that the plan asks for; and the name of the
    lock, which determines the shard. payload: the arguments as plain JSON. secret: see `digest`."""
    found = digest(task_type, plan, payload, secret)
    if plan.throttle_ms:
        # The digest is that of the key, not of the arguments: other arguments are no conflict.
        name = throttle_name(task_type, found.hex())
        key = IdempotencyKey(name, found, plan.throttle_ms)
        if plan.trailing:  # it sets when the task is due
            return task._replace(due=None, absolute=False, key=key, joins=_TRAILING), None
        return task._replace(key=key, joins=NO_LOCK), None
    asked: dict[str, object] = {
        "key": found.hex(), "group": GROUP, "free": plan.free, "conflict": plan.conflict,
    }  # fmt: skip
    if plan.max_wait_ms:
        asked["max_wait_ms"] = plan.max_wait_ms
    if plan.supersede:
        asked["supersede"] = 1
    due, absolute = (plan.debounce_ms, False) if plan.debounce_ms else (task.due, task.absolute)
    joins = orjson.dumps({"unique": asked}).decode()
    fields = needing(task.fields, UNIQUE)
    return task._replace(due=due, absolute=absolute, fields=fields, joins=joins), found.hex()
