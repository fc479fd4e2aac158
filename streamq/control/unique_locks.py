"""The locks of unique keys: the holder and the successor of each.

Owns their description. Must not write.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

from streamq import envelope
from streamq import locks as unique_keys
from streamq.calls import listing as listing_calls
from streamq.calls import producer as producer_calls
from streamq.calls.locate import locate
from streamq.control.unreadable import Unreadable
from streamq.flow import Flow, ask
from streamq.keys import TypeKeys, type_keys
from streamq.model.task import TaskId
from streamq.options.checks import key_text
from streamq.options.unique_plan import Plan
from streamq.payloads.ring import index_key
from streamq.stored import count

PAGE: Final = 100
HolderState = Literal["scheduled", "parked", "ready", "started", "gone"]
_DIGEST: Final = re.compile(r"[0-9a-f]{32}", re.ASCII | re.IGNORECASE)
_STATES: Final[dict[str, HolderState]] = {one: one for one in get_args(HolderState)}


@dataclass(frozen=True, slots=True)
class UniqueLock:
    """The lock of one unique key. key: the digest of the key, as `unlock` takes it. holder: the id of the
    task that holds it. state: the holder's; "gone" if that task no longer exists, which the audit repairs.
    follows: the id of the task that waits for the holder's end, '' if there is none. since_ms: when the
    holder was accepted, 0 if that is unknown."""

    key: str
    type: str
    holder: str
    state: HolderState
    follows: str = ""
    since_ms: int = 0


def _nothing() -> listing_calls.LockPage:
    return listing_calls.LockPage("0", [])


def locks(
    app: str, shards: list[int], task_type: str, limit: int, unreadable: Unreadable
) -> Flow[list[UniqueLock]]:
    """Return at most `limit` locks of a task type."""
    found: dict[str, UniqueLock] = {}
    for shard in shards:
        cursor, t = "0", type_keys(app, shard, task_type)
        while len(found) < limit:
            page = yield from unreadable.ask(listing_calls.page_locks(t, cursor, PAGE), _nothing)
            for key, holder, state, follows, since in page.rows:
                ids = [str(TaskId(task_type, shard, one)) if one else "" for one in (holder, follows)]
                found[f"{shard}:{key}"] = UniqueLock(
                    key, task_type, ids[0], _STATES.get(state, "gone"), ids[1], since
                )
            cursor = page.cursor
            if cursor == "0":
                break
    return list(found.values())[:limit]


def digest_of(app: str, task_type: str, key: str) -> str:
    """Return the digest of a key that is given as such, or as the text of a call's `unique`. Raises
    InvalidOption."""
    if _DIGEST.fullmatch(key):
        return key.lower()
    return unique_keys.digest(task_type, Plan(key=key_text(key, "key")), b"", index_key(app)).hex()


def lock(app: str, shards: list[int], task_type: str, key: str) -> Flow[UniqueLock | None]:
    """Return the lock of one key, by its digest or its text; None if no task holds it."""
    digest = digest_of(app, task_type, key)
    for shard in shards:
        t = type_keys(app, shard, task_type)
        holder = yield from ask(producer_calls.lock_holder(t, bytes.fromhex(digest)))
        if holder:
            return (yield from _described(t, digest, holder))
    return None


def _described(t: TypeKeys, digest: str, holder: str) -> Flow[UniqueLock]:
    found = yield from ask(locate(t, holder))
    follows = yield from ask(listing_calls.follower(t, bytes.fromhex(digest)))
    state = _STATES.get("started" if found.state == "running" else found.state, "gone")
    accepted = 0 if holder[0] == "d" else count(holder[1:].partition("-")[0])
    since = count(envelope.fields_dict(found.fields).get("e")) or accepted
    ids = [str(TaskId(t.type, t.shard, one)) if one else "" for one in (holder, follows)]
    return UniqueLock(digest, t.type, ids[0], state, ids[1], since)
