"""What a node gets of others: their results as its arguments, read just before its call.

Owns the reading, its bounds, and what a dependent gets of a node that failed. Does no I/O: a flow of steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from streamq import envelope, stored_result
from streamq.calls import flows as calls
from streamq.calls.locate import locate
from streamq.errors import DecodeError
from streamq.flow import Flow, ask
from streamq.flows import needs as asked
from streamq.flows.naming import is_number, maps, named_task, opened_result, parsed_maps
from streamq.flows.needs import MOST_BYTES, Need, Needs, NodeOf, OfCompleted, OfFailure, OfMap, spliced
from streamq.keys import ShardKeys, shard_keys, type_keys
from streamq.model.delivery import Delivery
from streamq.model.where import Buried
from streamq.payloads.pipeline import SEALED, opened
from streamq.payloads.stage import About, NoKey
from streamq.stored import text

AT_ONCE: Final = 500
"""Results that one call reads."""
STATE_NAMES: Final = {
    "w": "waiting", "q": "ready", "r": "released", "c": "completed", "d": "dead", "x": "cancelled",
    "e": "expired", "s": "skipped",
}  # fmt: skip
"""The states of nodes by their letters: see `lua/lib/flow_open.lua`."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What the dependents of a node with `on_error="continue"` get where it failed, instead of its result.

    node: its name. task: the id of its task. state: dead, cancelled or expired. reason: of the dead letter.
    error: its last error.
    """

    node: str
    task: str
    state: str
    reason: str = ""
    error: str = ""


def payload_of(app: str, delivery: Delivery) -> Flow[bytes]:
    """Return the payload of a node's task with what it needs of others. Raises DecodeError, with the reason
    `inputs`."""
    node = asked.read(delivery.node)
    if not node.needs:
        return delivery.payload
    s = shard_keys(app, delivery.shard)
    try:
        values = yield from _values(s, node)
        about = About(app, delivery.type, "payload")
        return spliced(opened(delivery.payload, about), values)
    except NoKey:
        raise  # another worker may have it
    except DecodeError as error:
        raise DecodeError(str(error), reason="inputs") from None


def _values(s: ShardKeys, node: NodeOf) -> Flow[dict[str, bytes]]:
    ranges = yield from _ranges(s, node)
    needed = yield from _counted(s, node, ranges)
    wanted = [number for need in needed.values() for number in _numbers(need, ranges)]
    results = yield from read_results(s, node.flow, list(dict.fromkeys(wanted)), ranges)
    found = {
        name: _json(need, ranges, results) for name, need in needed.items() if not isinstance(need, OfFailure)
    }
    if len(found) < len(needed):
        failure = orjson.dumps((yield from cause_of(s, node.flow)))
        found |= {name: failure for name, need in needed.items() if isinstance(need, OfFailure)}
    return found


def _counted(s: ShardKeys, node: NodeOf, ranges: Mapping[int, tuple[int, int]]) -> Flow[Needs]:
    """Return what a node needs, with the numbers of the children of maps that have completed."""
    found = dict(node.needs)
    for name, need in node.needs.items():
        if isinstance(need, OfCompleted):
            found[name] = yield from completed_of(s, node.flow, need.node, ranges)
    return found


def completed_of(
    s: ShardKeys, flow: str, node: int, ranges: Mapping[int, tuple[int, int]]
) -> Flow[list[int]]:
    """Return the numbers of the children of a map that have completed, and are not undone yet. Raises
    DecodeError if there are none: who asks runs only where there are, so the record is damaged."""
    first, count = ranges.get(node, (0, 0))
    states = yield from ask(calls.states(s, flow, first, first + count))
    # In this order: who is late has completed after those that are undone were read.
    grown, late = yield from ask(calls.record(s, flow, ["grown", "late"]))
    spawned, left_out = set(text(grown or b"").split()), set(text(late or b"").split())
    found = [
        n for n, letter in enumerate(states[:count], first)
        if str(n) not in left_out and (letter == "c" or (str(n) in spawned and letter in "qrs"))
    ]  # fmt: skip
    if len(states) < count or not found:
        raise DecodeError(f"the record of the flow does not say which children of node {node} have completed")
    return found


def cause_of(s: ShardKeys, flow: str) -> Flow[Failure]:
    """Return why a flow failed: the first of its nodes that did."""
    [cause, raw, why] = yield from ask(calls.record(s, flow, ["cause", "maps", "why"]))
    if cause is None or not is_number(text(cause)):
        return Failure("", "", "dead", "", "the flow could not go on")
    state = yield from ask(calls.states(s, flow, int(cause), int(cause)))
    failure = yield from failure_of(s, flow, int(cause), state, parsed_maps(raw))
    return failure if why is None else replace(failure, reason=text(why))


def stuck_in(s: ShardKeys, flow: str) -> Flow[Failure | None]:
    """Return the undo task that failed, of a flow that is stuck; None if its record is damaged."""
    [raw] = yield from ask(calls.record(s, flow, ["order"]))
    node = text(raw or b"").rpartition(" ")[2]
    [told] = yield from ask(calls.record(s, flow, [f"n{node}"]))
    try:
        undo = int(orjson.loads(told or b"")["u"])
    except (ValueError, KeyError, TypeError):
        return None
    state = yield from ask(calls.states(s, flow, undo, undo))
    return (yield from failure_of(s, flow, undo, state, {}))


def _ranges(s: ShardKeys, node: NodeOf) -> Flow[Mapping[int, tuple[int, int]]]:
    if any(isinstance(need, (OfMap, OfCompleted)) for need in node.needs.values()):
        return (yield from maps(s, node.flow))
    return {}


def _numbers(need: Need, ranges: Mapping[int, tuple[int, int]]) -> Iterable[int]:
    if isinstance(need, (OfFailure, OfCompleted)):
        return ()
    if isinstance(need, OfMap):
        first, count = ranges.get(need.node, (0, 0))
        return range(first, first + (count if need.first is None else min(need.first, count)))
    return need if isinstance(need, list) else [need]


def _json(need: Need, ranges: Mapping[int, tuple[int, int]], results: Mapping[int, bytes]) -> bytes:
    if isinstance(need, int):
        return results[need]
    return b"[" + b",".join(results[number] for number in _numbers(need, ranges)) + b"]"


def read_results(
    s: ShardKeys,
    flow: str,
    nodes: Sequence[int],
    ranges: Mapping[int, tuple[int, int]],
    most: int = MOST_BYTES,
) -> Flow[dict[int, bytes]]:
    """Return the results of nodes as JSON; of one that failed a Failure. Raises DecodeError."""
    found: dict[int, bytes] = {}
    left = most
    for n in range(0, len(nodes), AT_ONCE):
        part = nodes[n : n + AT_ONCE]
        read = yield from ask(calls.results(s, flow, part, left))
        if read.size < 0:
            raise DecodeError(
                f"the results that this node needs have more than {most:,} bytes: return references to "
                "what is "
                "stored elsewhere"
            )
        left -= read.size
        for number, (state, raw) in zip(part, read.found, strict=True):
            if state == "c" and not raw:
                found[number] = yield from _of_others(s, flow, number, left)
            else:
                found[number] = yield from _one(s, flow, number, state, raw, ranges)
    return found


def completed(s: ShardKeys, flow: str, node: int) -> Flow[bytes | None]:
    """Return the result of a node as JSON in one call; None where it has not completed, or has none of its
    own. Raises DecodeError."""
    read = yield from ask(calls.results(s, flow, [node], MOST_BYTES))
    state, raw = read.found[0] if read.size >= 0 else ("", b"")
    if state != "c" or not raw:
        return None
    result, _ = stored_result.unpack_result("", raw)
    if result[:1] == SEALED:
        return None
    return result or b"null"


def _of_others(s: ShardKeys, flow: str, number: int, most: int) -> Flow[bytes]:
    """Return the result of a node that has none of its own: those of the children that its handler has
    returned, or of the one that joins them; that of the node that won a race; of a timer none."""
    ranges = yield from maps(s, flow)
    fields = [f"n{number}", f"won{number}", f"kj{number}"]
    [raw, won, join] = yield from ask(calls.record(s, flow, fields))
    if raw is not None and b'"sleep"' in raw:
        return b"null"
    if won is not None and is_number(text(won)) and int(text(won)) < number:
        return (yield from read_results(s, flow, [int(text(won))], ranges, most))[int(text(won))]
    if number not in ranges:
        raise DecodeError(f"node {number} of the flow has no result: its result is gone")
    first, count = ranges[number]
    children = range(first, first + count)
    if join == b"1" and children:
        return (yield from read_results(s, flow, children[-1:], ranges, most))[children[-1]]
    results = yield from read_results(s, flow, children, ranges, most)
    return b"[" + b",".join(results[one] for one in children) + b"]"


def _one(
    s: ShardKeys, flow: str, number: int, state: str, raw: bytes, ranges: Mapping[int, tuple[int, int]]
) -> Flow[bytes]:
    if raw and state not in ("d", "x", "e"):
        result, _ = stored_result.unpack_result("", raw)
        return (yield from opened_result(s, flow, number, result, ranges)) or b"null"
    if state in ("d", "x", "e"):
        failure = yield from failure_of(s, flow, number, state, ranges)
        return orjson.dumps(failure)
    raise DecodeError(f"node {number} of the flow has no result: it is {STATE_NAMES.get(state, 'unknown')}")


def failure_of(
    s: ShardKeys, flow: str, number: int, state: str, ranges: Mapping[int, tuple[int, int]]
) -> Flow[Failure]:
    """Return why a node failed."""
    name, task = yield from named_task(s, flow, number, ranges)
    named = STATE_NAMES.get(state, "unknown")
    if task is None:
        return Failure(name, "", named)
    located = yield from ask(locate(type_keys(s.app, s.shard, task.type), task.local))
    failures = envelope.failures(envelope.fields_dict(located.fields).get("f", b""))
    last: Mapping[str, Any] = failures[-1] if failures else {}
    error = f"{last.get('error', '')}: {last.get('message', '')}" if last else ""
    reason = located.where.reason if isinstance(located.where, Buried) else ""
    return Failure(name, str(task), named, reason, error)
