"""Checks the keys of an app themselves: whether streamq knows them, their type, and their lifetime.

Owns that walk: SCAN on each node that holds data, then the states of the keys shard by shard. Must not write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from streamq.calls import audit as audit_calls
from streamq.calls import producer as producer_calls
from streamq.calls.audit import Fault, KeyState
from streamq.flow import AskAll, AskNode, Flow, ask
from streamq.keys import MORTAL, VALUES, KnownKey, app_pattern, known_key, shard_keys
from streamq.model.task import TYPE_PATTERN

SCANNED: Final = 500
ABSENT: Final = -2
FOREVER: Final = -1


class Keys(NamedTuple):
    """A step of the walk: known keys with their states, and faults with the shard they are in."""

    known: list[tuple[KnownKey, KeyState]]
    faults: list[tuple[KnownKey, Fault]]


def walk(app: str, shards: int, found: Callable[[Keys], Flow[None]]) -> Flow[None]:
    """Walk over all keys of an app, node by node; call `found` with the findings of each step."""
    pattern = app_pattern(app)
    nodes: dict[str, tuple[str, list[str]]] = yield AskAll(audit_calls.scan_keys(pattern, "", SCANNED))
    for node, (first, listed) in nodes.items():
        cursor = first
        yield from found((yield from _sorted(app, shards, sorted(set(listed)))))
        while cursor:
            cursor, more = yield AskNode(node, audit_calls.scan_keys(pattern, cursor, SCANNED))
            yield from found((yield from _sorted(app, shards, sorted(set(more)))))


def _sorted(app: str, shards: int, listed: list[str]) -> Flow[Keys]:
    found = Keys([], [])
    by_shard: dict[int, dict[str, KnownKey]] = {}
    for key in listed:
        known = known_key(app, key)
        if known is None or (known.type and not TYPE_PATTERN.fullmatch(known.type)):
            found.faults.append((KnownKey(0, "", ""), Fault("unknown_key", key)))
        else:
            by_shard.setdefault(known.shard, {})[key] = known
    for shard, keys in by_shard.items():
        for state in (yield from ask(audit_calls.audit_keys(list(keys)))):
            if state.life_ms != ABSENT:
                found.known.append((keys[state.key], state))
                found.faults.extend((keys[state.key], fault) for fault in faults(keys[state.key], state))
        # A closed shard keeps results, counters, and the mark itself.
        if shard >= shards and not (yield from ask(producer_calls.is_closed(shard_keys(app, shard)))):
            some = next(iter(keys))
            found.faults.append((keys[some], Fault("unserved_shard", some)))
    return found


def faults(known: KnownKey, state: KeyState) -> list[Fault]:
    """Return the faults of a key itself."""
    expected = VALUES.get(known.kind, state.holds)
    if state.holds != expected:
        return [Fault("wrong_kind", f"{state.key} holds a {state.holds}, not a {expected}")]
    if known.kind in MORTAL and state.life_ms == FOREVER:
        return [Fault("missing_lifetime", state.key)]
    if known.kind not in MORTAL and state.life_ms != FOREVER:
        return [Fault("unwanted_lifetime", state.key)]
    return []
