"""The locks of unique keys: the holder and the successor of each.

Owns their description. Must not write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from streamq.calls import listing as listing_calls
from streamq.control.unreadable import Unreadable
from streamq.flow import Flow
from streamq.keys import type_keys
from streamq.model.task import TaskId

PAGE: Final = 100
HolderState = Literal["scheduled", "parked", "ready", "started", "gone"]
_STATES: Final[dict[str, HolderState]] = {one: one for one in get_args(HolderState)}


@dataclass(frozen=True, slots=True)
class UniqueLock:
    """The lock of one unique key. key: the digest of the key, as `unlock` takes it. holder: the id of the
    task that holds it. state: the holder's; "gone" if that task no longer exists, which the audit repairs.
    follows: the id of the task that waits for the holder's end, '' if there is none."""

    key: str
    type: str
    holder: str
    state: HolderState
    follows: str = ""


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
            for key, holder, state, follows in page.rows:
                ids = [str(TaskId(task_type, shard, one)) if one else "" for one in (holder, follows)]
                found[f"{shard}:{key}"] = UniqueLock(
                    key, task_type, ids[0], _STATES.get(state, "gone"), ids[1]
                )
            cursor = page.cursor
            if cursor == "0":
                break
    return list(found.values())[:limit]
