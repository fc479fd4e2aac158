"""Paused task types and the log of operators' actions.

Owns the format of a pause and of an action. Both are stored in every shard that they concern. Must not write.
"""

from __future__ import annotations

import getpass
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import orjson

from streamq.calls import listing as listing_calls
from streamq.control.unreadable import Unreadable
from streamq.errors import UsageError
from streamq.flow import Flow
from streamq.keys import shard_keys
from streamq.model.reply import Note
from streamq.stored import count, mapping, moment

_TEXT: Final = 500
_ACTION: Final = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Pause:
    """A paused task type: the operator, since when, and why."""

    type: str
    by: str
    reason: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Action:
    """An operator's action. done: how many tasks (or types, or workers) it changed. asked: how many there
    were when it began; None if they were not counted. reason: why, if the operator said so."""

    id: str
    at_ms: int
    by: str
    verb: str
    what: str
    done: int
    asked: int | None = None
    reason: str = ""


def user() -> str:
    """Who acts where nobody says: the user of this process."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a process without a name in the password file
        return "unknown"


def new_action() -> str:
    """Return the id of a new action."""
    return secrets.token_hex(8)


def note(
    by: str, verb: str, what: str, asked: int | None = None, action: str = "", *, reason: str = ""
) -> Note:
    """Return an action for the log: a new one, or the one with this id. Raises UsageError."""
    if action and not _ACTION.fullmatch(action):
        raise UsageError(f"invalid action={action[:40]!r}: use an id from new_action()")
    about: dict[str, object] = {"by": by[:_TEXT], "verb": verb, "what": what[:_TEXT], "asked": asked}
    if reason:
        about["reason"] = reason[:_TEXT]
    return Note(action or new_action(), orjson.dumps(about))


def paused(app: str, shards: Iterable[int], unreadable: Unreadable) -> Flow[dict[str, Pause]]:
    """Return the task types that are paused in at least one of these shards."""
    found: dict[str, Pause] = {}
    for shard in shards:
        stored = yield from unreadable.ask(listing_calls.paused(shard_keys(app, shard)), dict)
        for name, details in stored.items():
            about = mapping(details)
            by, reason = str(about.get("by", "")), str(about.get("reason", ""))
            found.setdefault(name, Pause(name, by, reason, moment(about.get("at_ms"))))
    return found


def actions(app: str, shards: Iterable[int], limit: int, unreadable: Unreadable) -> Flow[list[Action]]:
    """Return the latest actions, newest first."""
    merged: dict[str, Action] = {}
    for shard in shards:
        keys = shard_keys(app, shard)
        ids = yield from unreadable.ask(listing_calls.action_log(keys, limit), list)
        rows = (yield from unreadable.ask(listing_calls.actions(keys, ids), list)) if ids else []
        for name, (row, done) in zip(ids, rows, strict=False):
            if row is not None:
                known = merged.get(name)
                merged[name] = _action(name, row, done + (known.done if known else 0))
    return sorted(merged.values(), key=lambda action: -action.at_ms)[:limit]


def _action(name: str, row: bytes, done: int) -> Action:
    stamp, _, raw = row.partition(b" ")
    about = mapping(raw)
    asked = about.get("asked")
    return Action(
        name, moment(stamp), str(about.get("by", "")), str(about.get("verb", "")),
        str(about.get("what", "")), done, None if asked is None else count(asked),
        str(about.get("reason", "")),
    )  # fmt: skip
