"""The results of a flow: what its nodes returned, and the errors for how it ended.

Must not wait for the end: the client does. Every operation is a flow of steps: the handle carries them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson

from streamq.calls import flows as calls
from streamq.errors import FlowCancelled, FlowFailed, ResultTimeout, ResultUnavailable, UsageError
from streamq.flow import Flow, ask
from streamq.flows import actions, reading
from streamq.flows.flow_id import FlowId
from streamq.flows.inputs import STATE_NAMES, Failure, cause_of, completed, read_results, stuck_in
from streamq.flows.naming import children_kinds, maps
from streamq.flows.reading import OVER, Named
from streamq.keys import ShardKeys, shard_keys
from streamq.registry.registry import Registry

RESULT_BYTES: Final = 67_108_864
"""The most bytes of results that `result` returns: those of a large map are read with `results`."""
_PAGE: Final = 500

if TYPE_CHECKING:
    from streamq.client.flow_waits import Ends


class FlowResults:
    """The results of one flow. last: the nodes whose results are the flow's, where the program that has
    started it knows: two calls less."""

    def __init__(self, registry: Registry, flow: FlowId, last: Mapping[str, Named] | None = None) -> None:
        self._registry, self._id, self._last = registry, flow, last
        self._s: ShardKeys = shard_keys(registry.name, flow.shard)

    def result(self, node: str | None, state: str | None) -> Flow[Any]:
        """Return the result of a node, or of those that nothing waits for. state: of the flow, if the caller
        has just read it. Raises for any other end than that the flow has completed, ResultTimeout where it
        has not ended."""
        if state is None:
            state = yield from ask(calls.state(self._s, self._id.local))
        yield from self._completed(state)
        wanted = yield from self._wanted(node)
        found: dict[str, object] = {}
        for name, node_ in wanted.items():
            handler = self._registry.handlers.get(node_.type)
            listed = handler is not None and handler.expands and not handler.joins
            one = _of_children(node_) if listed else node_
            values = yield from self.read(name, one)
            found[name] = values if one.kind == "map" else values[0]
        return found if len(found) != 1 else found.popitem()[1]

    @property
    def ends(self) -> Ends:
        """How to see that the flow has ended."""
        from streamq.client.flow_waits import Ends  # noqa: PLC0415 - it loads asyncio: only programs that wait do

        s, flow = self._s, self._id.local
        told = f"flow {self._id} has ended"
        return Ends(s.shard, s.flow_done(flow), calls.state(s, flow), OVER, told)

    def _completed(self, state: str) -> Flow[None]:
        """Raise for any other state."""
        if state not in OVER:
            raise ResultTimeout((yield from self._late()))
        if state == "unknown":
            raise actions.unknown(self._id)
        if state == "cancelled":
            raise FlowCancelled(f"flow {self._id} was cancelled")
        if state in ("failed", "stuck"):
            raise (yield from self._failed(stuck=state == "stuck"))

    def _late(self) -> Flow[str]:
        found = yield from reading.head(self._s, self._id.local)
        return (
            f"flow {self._id} is {found.state}: {found.done} of {found.nodes} nodes have ended, "
            f"{found.released} were released, {found.waiting} wait"
        )

    def _failed(self, *, stuck: bool) -> Flow[FlowFailed]:
        cause = yield from cause_of(self._s, self._id.local)
        why = cause.error or cause.reason or cause.state
        undo = (yield from stuck_in(self._s, self._id.local)) if stuck else None
        if undo is not None:
            return FlowFailed(
                f"flow {self._id} is stuck: its undo failed in node {undo.node!r} ({undo.task}): "
                f"{undo.error or undo.reason or undo.state}. What completed before that node is not undone. "
                "When the cause is gone, call retry()", node=undo.node, error=undo.error,
            )  # fmt: skip
        return FlowFailed(
            f"flow {self._id} failed: node {cause.node!r} ({cause.task or 'no task'}): {why}. When the "
            "cause is gone, call retry()", node=cause.node, error=cause.error,
        )  # fmt: skip

    def _wanted(self, node: str | None) -> Flow[dict[str, Named]]:
        if node is None:
            if self._last is not None:
                return dict(self._last)
            return (yield from reading.last_nodes(self._s, self._id.local))
        return {node: (yield from self._named(node))}

    def _named(self, node: str) -> Flow[Named]:
        listed = yield from reading.nodes(self._s, self._id.local)
        for one in listed:
            if one.name == node:
                ranges = (
                    (yield from maps(self._s, self._id.local)) if one.kind == "map" or one.children else {}
                )
                return reading.named(one.number, {"t": one.type, "k": one.kind}, ranges)
        if not listed:
            raise actions.unknown(self._id)
        names = ", ".join(one.name for one in listed[:20])
        raise UsageError(f"flow {self._id} has no node {node!r}; it has: {names}")

    def children(self, node: str) -> Flow[Named]:
        """Return what a reader of a node's children needs. Raises UsageError if it has none."""
        one = yield from self._named(node)
        if one.kind != "map" and not one.children:
            raise UsageError(f"node {node!r} is not a map, so it has no children: call result(node={node!r})")
        found, handler = _of_children(one), self._registry.handlers.get(one.type)
        joined = handler is not None and handler.joins and one.kind != "map"
        return found._replace(numbers=found.numbers[:-1]) if joined else found

    def read(self, node: str, one: Named) -> Flow[list[object]]:
        """Return the results of a node, or of children of it. Raises ResultUnavailable."""
        s, flow, numbers = self._s, self._id.local, one.numbers
        if one.kind == "task" and (found := (yield from completed(s, flow, one.number))) is not None:
            handler = self._registry.handlers.get(one.type)
            return [_decoded(found, None if handler is None else handler.decode_result)]
        states = yield from ask(calls.states(s, flow, numbers.start, max(numbers.start, numbers.stop - 1)))
        missing = next((n for n, state in enumerate(states[: len(numbers)]) if state not in "cdxe"), None)
        if missing is not None:
            what = f"its child {missing}" if one.kind == "map" else "it"
            state = STATE_NAMES.get(states[missing], "unknown")
            raise ResultUnavailable(f"node {node!r} of flow {self._id} has no result: {what} is {state}")
        ranges = {one.number: (one.first, numbers.stop - one.first)} if one.kind == "map" else {}
        raw = yield from read_results(s, flow, list(numbers), ranges, RESULT_BYTES)
        types = yield from self._types(one)
        handlers = map(self._registry.handlers.get, types)
        return [
            _decoded(raw[n], None if handler is None or state != "c" else handler.decode_result)
            for n, state, handler in zip(numbers, states, handlers, strict=False)
        ]

    def _types(self, one: Named) -> Flow[list[str]]:
        """Return the task type of each of these nodes, which are one, or children of the same."""
        grown = one.kind == "map" and one.children
        kinds = (yield from children_kinds(self._s, self._id.local, one.number)) if grown else None
        if kinds is None:
            return [one.type] * len(one.numbers)
        start = one.numbers.start - one.first
        return [name for name, _ in kinds[start : start + len(one.numbers)]]


def _of_children(one: Named) -> Named:
    """Return what a reader of a node's children needs."""
    if one.kind == "map":
        return one
    return one._replace(kind="map", first=one.children.start, numbers=one.children)


def pages(children: Named) -> Iterator[Named]:
    """Yield the children of a map, a page at a time."""
    for n in range(0, len(children.numbers), _PAGE):
        yield children._replace(numbers=children.numbers[n : n + _PAGE])


def _decoded(raw: bytes, decode: Callable[[bytes], object] | None) -> object:
    data = orjson.loads(raw)
    if decode is not None:
        return decode(raw)
    return Failure(**data) if isinstance(data, dict) and data.keys() == set(Failure.__slots__) else data
