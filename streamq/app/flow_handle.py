"""The handle of a flow: status, result, cancel, retry, each sync and async.

Owns the waiting for a flow's end, and the errors for how it ended. A handle is made by `start`, or from an id
by `app.flow_handle(id)`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NoReturn

import orjson

from streamq.app.enqueuer import Enqueuer
from streamq.blocking import refuse
from streamq.calls import flows as calls
from streamq.client.signals import checked_name, sealed_value
from streamq.errors import (
    FlowCancelled,
    FlowFailed,
    ResultTimeout,
    ResultUnavailable,
    UnknownFlow,
    UsageError,
)
from streamq.flow import Flow, Pause, ask
from streamq.flows import actions, reading
from streamq.flows.flow_id import FlowId
from streamq.flows.inputs import STATE_NAMES, Failure, cause_of, read_results, stuck_in
from streamq.flows.naming import about_signal, children_kinds, maps
from streamq.flows.reading import OVER, FlowInfo, FlowState, Named, NodeInfo
from streamq.keys import ShardKeys, shard_keys
from streamq.model.task import SignalAnswer
from streamq.options.checks import Duration, seconds
from streamq.registry.registry import Registry

_SHORTEST, _LONGEST = 0.01, 0.5
"""Seconds between two looks at a flow that somebody waits for: a tenth of the time that it has taken."""
RESULT_BYTES: Final = 67_108_864
"""The most bytes of results that `result` returns: those of a large map are read with `results`."""
_PAGE: Final = 500


class FlowHandle:
    """One flow. duplicate: it existed already, with the same key."""

    __slots__ = ("_enqueuer", "_id", "_registry", "duplicate")

    def __init__(
        self, flow: FlowId, registry: Registry, enqueuer: Enqueuer, *, duplicate: bool = False
    ) -> None:
        self._id, self._registry, self._enqueuer = flow, registry, enqueuer
        self.duplicate: bool = duplicate

    if not TYPE_CHECKING:  # type checkers would accept every name as an attribute

        def __getattr__(self, name: str) -> NoReturn:
            from streamq.migration_hints import missing  # noqa: PLC0415 - only for a misspelt name

            missing("FlowHandle", name)

    @property
    def id(self) -> str:
        """The flow's id, `name:shard:local`."""
        return str(self._id)

    def __repr__(self) -> str:
        return f"<FlowHandle {self._id}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FlowHandle):
            return NotImplemented
        return (self._registry.name, self._id) == (other._registry.name, other._id)

    def __hash__(self) -> int:
        return hash((self._registry.name, self._id))

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle a FlowHandle: it holds connections. Keep its id: app.flow_handle(id)")

    @property
    def _s(self) -> ShardKeys:
        return shard_keys(self._registry.name, self._id.shard)

    # -- reading ---------------------------------------------------------------------------------------

    def status(self) -> FlowState:
        """Return the state: running; failing or cancelling, while the rest of it ends; completed, failed,
        cancelled; unknown if it never existed or ended longer ago than it is kept."""
        refuse("FlowHandle.status()", "await handle.astatus()")
        return self._enqueuer.drive(self._head()).state

    async def astatus(self) -> FlowState:
        """Return the state, as `status` does."""
        return (await self._enqueuer.adrive(self._head())).state

    def info(self) -> FlowInfo:
        """Return the state with the numbers of nodes. Raises UnknownFlow."""
        refuse("FlowHandle.info()", "await handle.ainfo()")
        return self._enqueuer.drive(self._info())

    async def ainfo(self) -> FlowInfo:
        """Return the state with the numbers of nodes, as `info` does."""
        return await self._enqueuer.adrive(self._info())

    def nodes(self) -> list[NodeInfo]:
        """Return the nodes as they were declared, each with its state and the id of its task."""
        refuse("FlowHandle.nodes()", "await handle.anodes()")
        return self._enqueuer.drive(reading.nodes(self._s, self._id.local))

    async def anodes(self) -> list[NodeInfo]:
        """Return the nodes, as `nodes` does."""
        return await self._enqueuer.adrive(reading.nodes(self._s, self._id.local))

    def result(self, timeout: Duration | None = None, *, node: str | None = None) -> Any:
        """Wait for the end of the flow, at most `timeout`, and return the result of the node that no other
        node waits for; where there are several, a dict of theirs by name, or that of `node`.

        Raises ResultTimeout, FlowFailed, FlowCancelled, UnknownFlow, and ResultUnavailable.
        """
        refuse("FlowHandle.result()", "await handle.aresult()")
        return self._enqueuer.drive(self._result(_deadline(timeout), node))

    async def aresult(self, timeout: Duration | None = None, *, node: str | None = None) -> Any:
        """Wait for the end of the flow and return its result, as `result` does."""
        return await self._enqueuer.adrive(self._result(_deadline(timeout), node))

    def results(self, node: str) -> Iterator[Any]:
        """Iterate over the results of a map, in the order of its items, a page at a time. What failed is a
        Failure. Raises FlowFailed, ResultUnavailable if a child has no result (yet)."""
        refuse("FlowHandle.results()", "async for … in handle.aresults(…)")
        children = self._enqueuer.drive(self._children(node))
        for page in _pages(children):
            yield from self._enqueuer.drive(self._read(node, page))

    async def aresults(self, node: str) -> AsyncIterator[Any]:
        """Iterate over the results of a map, as `results` does."""
        children = await self._enqueuer.adrive(self._children(node))
        for page in _pages(children):
            for one in await self._enqueuer.adrive(self._read(node, page)):
                yield one

    # -- acting ----------------------------------------------------------------------------------------

    def cancel(self, *, undo: bool = True) -> bool:
        """Cancel the flow: what waits is skipped, tasks that have not started are cancelled, those that run
        are asked to stop; then completed nodes are undone, unless `undo` is false. Return whether it was
        running. Raises UnknownFlow."""
        refuse("FlowHandle.cancel()", "await handle.acancel()")
        return self._enqueuer.drive(actions.cancel(self._s, self._id, undo=undo))

    async def acancel(self, *, undo: bool = True) -> bool:
        """Cancel the flow, as `cancel` does."""
        return await self._enqueuer.adrive(actions.cancel(self._s, self._id, undo=undo))

    def signal(self, name: str, value: object = None) -> SignalAnswer:
        """Give the flow a signal, which a node `wf.wait(name)` takes, or will take; return what became of it:
        delivered, stored (nobody waits for it yet), too late (the flow has ended) or unknown.

        Raises UsageError if no node of the flow waits for such a signal, InvalidOption and PayloadError.
        """
        refuse("FlowHandle.signal()", "await handle.asignal()")
        return self._enqueuer.drive(self._signal(name, value))

    async def asignal(self, name: str, value: object = None) -> SignalAnswer:
        """Give the flow a signal, as `signal` does."""
        return await self._enqueuer.adrive(self._signal(name, value))

    def retry(self, *, start: str | Iterable[str] = ()) -> bool:
        """Let a flow that has failed or was cancelled go on: nodes that failed run again, with their memos,
        nodes that were undone run again with all that waits for them, what was skipped waits again, and other
        results stay. A flow that is stuck tries its failed undo task again.

        start: the names of nodes that run again as well, with all that waits for them, also where the flow
        has completed. Return whether it goes on. Raises UnknownFlow, and UsageError for an unknown name.
        """
        refuse("FlowHandle.retry()", "await handle.aretry()")
        return self._enqueuer.drive(self._retry(start))

    async def aretry(self, *, start: str | Iterable[str] = ()) -> bool:
        """Let a flow that has failed or was cancelled go on, as `retry` does."""
        return await self._enqueuer.adrive(self._retry(start))

    # -- steps -----------------------------------------------------------------------------------------

    def _retry(self, start: str | Iterable[str]) -> Flow[bool]:
        names = [start] if isinstance(start, str) else list(start)
        pipeline = self._registry.pipeline
        return (yield from actions.retry(self._s, self._id, pipeline, start=names))

    def _signal(self, name: str, value: object) -> Flow[SignalAnswer]:
        about = about_signal(self._s, self._id.local)
        raw = sealed_value(value, self._registry.pipeline, about)
        return (yield from actions.signal(self._s, self._id, checked_name(name), raw))

    def _head(self) -> Flow[FlowInfo]:
        return (yield from reading.head(self._s, self._id.local))

    def _info(self) -> Flow[FlowInfo]:
        found = yield from self._head()
        if found.state == "unknown":
            raise actions.unknown(self._id)
        return found

    def _result(self, deadline: float | None, node: str | None) -> Flow[Any]:
        yield from self._ended(deadline)
        wanted = yield from self._wanted(node)
        found: dict[str, Any] = {}
        for name, node_ in wanted.items():
            handler = self._registry.handlers.get(node_.type)
            one = _of_children(node_) if handler is not None and handler.expands else node_
            values = yield from self._read(name, one)
            found[name] = values if one.kind == "map" else values[0]
        return found if len(found) != 1 else found.popitem()[1]

    def _ended(self, deadline: float | None) -> Flow[None]:
        """Wait until the flow has completed. Raises for any other end."""
        began = time.monotonic()
        while True:
            [raw] = yield from ask(calls.record(self._s, self._id.local, ["state"]))
            state = "unknown" if raw is None else raw.decode("ascii", "replace")
            if state in OVER:
                break
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                raise ResultTimeout((yield from self._late()))
            pause = min(_LONGEST, max(_SHORTEST, (now - began) / 10))
            yield Pause(pause if deadline is None else min(pause, max(0.0, deadline - now)))
        if state == "unknown":
            raise actions.unknown(self._id)
        if state == "cancelled":
            raise FlowCancelled(f"flow {self._id} was cancelled")
        if state in ("failed", "stuck"):
            raise (yield from self._failed(stuck=state == "stuck"))

    def _late(self) -> Flow[str]:
        found = yield from self._head()
        return (
            f"flow {self._id} is {found.state}: {found.done} of {found.nodes} nodes have ended, "
            f"{found.released} "
            f"were released, {found.waiting} wait"
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
            "cause is "
            "gone, call retry()", node=cause.node, error=cause.error,
        )  # fmt: skip

    def _wanted(self, node: str | None) -> Flow[dict[str, Named]]:
        if node is None:
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

    def _children(self, node: str) -> Flow[Named]:
        one = yield from self._named(node)
        if one.kind != "map" and not one.children:
            raise UsageError(f"node {node!r} is no map and has no children: call result(node={node!r})")
        return _of_children(one)

    def _read(self, node: str, one: Named) -> Flow[list[Any]]:
        s, flow, numbers = self._s, self._id.local, one.numbers
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


def result_of(handle: FlowHandle) -> Flow[Any]:
    """Return the result of a flow that has ended, as its `result` does."""
    return handle._result(None, None)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def _of_children(one: Named) -> Named:
    """Return what a reader of a node's children needs."""
    if one.kind == "map":
        return one
    return one._replace(kind="map", first=one.children.start, numbers=one.children)


def _pages(children: Named) -> Iterator[Named]:
    """Yield the children of a map, a page at a time."""
    for n in range(0, len(children.numbers), _PAGE):
        yield children._replace(numbers=children.numbers[n : n + _PAGE])


def _decoded(raw: bytes, decode: Any) -> Any:
    data = orjson.loads(raw)
    if decode is not None:
        return decode(raw)
    return Failure(**data) if isinstance(data, dict) and data.keys() == set(Failure.__slots__) else data


def _deadline(timeout: Duration | None) -> float | None:
    return None if timeout is None else time.monotonic() + seconds(timeout, "timeout")


__all__ = ["FlowHandle", "UnknownFlow"]
