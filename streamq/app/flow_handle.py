"""The handle of a flow: status, result, cancel, retry, each sync and async.

Owns the public interface of a flow that exists. A handle is made by `start`, or from an id by
`app.flow_handle(id)`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from streamq.app.enqueuer import Enqueuer
from streamq.app.flow_results import FlowResults, pages
from streamq.blocking import refuse
from streamq.client.signals import checked_name, sealed_value
from streamq.errors import InvalidOption, UnknownFlow, UsageError
from streamq.flow import Flow
from streamq.flows import actions, reading
from streamq.flows.flow_id import FlowId
from streamq.flows.naming import about_signal
from streamq.flows.reading import FlowInfo, FlowState, Named, NodeInfo
from streamq.keys import ShardKeys, shard_keys
from streamq.model.task import SignalAnswer
from streamq.options.checks import Duration, seconds
from streamq.registry.registry import Registry

T = TypeVar("T")


class FlowHandle:
    """One flow. duplicate: it existed already, with the same key."""

    __slots__ = ("_enqueuer", "_id", "_last", "_registry", "duplicate")

    def __init__(
        self,
        flow: FlowId,
        registry: Registry,
        enqueuer: Enqueuer,
        *,
        duplicate: bool = False,
        last: Mapping[str, Named] | None = None,
    ) -> None:
        self._id, self._registry, self._enqueuer = flow, registry, enqueuer
        self._last = last
        self.duplicate: bool = duplicate

    if not TYPE_CHECKING:  # type checkers would accept every name as an attribute

        def __getattr__(self, name: str) -> NoReturn:
            from streamq.migration_hints import missing  # noqa: PLC0415 - only for a misspelt name

            missing("FlowHandle", name)

        def __await__(self) -> NoReturn:
            raise UsageError(
                "a handle cannot be awaited: write await handle.aresult(timeout=...) for the flow's result"
            )

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

    @property
    def _results(self) -> FlowResults:
        return FlowResults(self._registry, self._id, self._last)

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

    @overload
    def result(self, timeout: Duration | None = None, *, returns: T) -> T: ...
    @overload
    def result(self, timeout: Duration | None = None, *, node: str | None = None) -> Any: ...

    def result(
        self, timeout: Duration | None = None, *, node: str | None = None, returns: object = None
    ) -> Any:
        """Wait for the end of the flow, at most `timeout`, and return the result of the node that no other
        node waits for; where there are several, a dict of theirs by name, or that of `node`. returns: the
        output of a node as it was declared, `node.output`: its result, with its type.

        Raises ResultTimeout, FlowFailed, FlowCancelled, UnknownFlow, and ResultUnavailable.
        """
        refuse("FlowHandle.result()", "await handle.aresult()")
        from streamq.client.flow_waits import wait_until_over  # noqa: PLC0415 - it loads asyncio

        deadline, results = _deadline(timeout), self._results
        wanted = self._named(node, returns)
        state = self._enqueuer.wait(lambda waiting: wait_until_over(waiting, results.ends, deadline))
        return self._enqueuer.drive(results.result(wanted, state))

    @overload
    async def aresult(self, timeout: Duration | None = None, *, returns: T) -> T: ...
    @overload
    async def aresult(self, timeout: Duration | None = None, *, node: str | None = None) -> Any: ...

    async def aresult(
        self, timeout: Duration | None = None, *, node: str | None = None, returns: object = None
    ) -> Any:
        """Wait for the end of the flow and return its result, as `result` does."""
        from streamq.client.flow_waits import read, wait_until_over  # noqa: PLC0415 - as above

        deadline, results, waiting = _deadline(timeout), self._results, self._enqueuer.waiting
        wanted = self._named(node, returns)
        state = await wait_until_over(waiting, results.ends, deadline)
        return await read(waiting, self._id.shard, results.result(wanted, state))

    def results(self, node: str) -> Iterator[Any]:
        """Iterate over the results of a map, in the order of its items, a page at a time. What failed is a
        Failure. Raises FlowFailed, ResultUnavailable if a child has no result (yet)."""
        refuse("FlowHandle.results()", "async for … in handle.aresults(…)")
        children = self._enqueuer.drive(self._results.children(node))
        for page in pages(children):
            yield from self._enqueuer.drive(self._results.read(node, page))

    async def aresults(self, node: str) -> AsyncIterator[Any]:
        """Iterate over the results of a map, as `results` does."""
        children = await self._enqueuer.adrive(self._results.children(node))
        for page in pages(children):
            for one in await self._enqueuer.adrive(self._results.read(node, page)):
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

    def _named(self, node: str | None, returns: object) -> str | None:
        """Return the name of the node whose result is wanted. Raises what `FlowGraph.node_of` does, and
        InvalidOption for a node of another flow."""
        if returns is None:
            return node
        graph: Any = getattr(returns, "graph", None)
        if graph is None or getattr(graph, "name", None) != self._id.name:
            raise InvalidOption(f"returns={returns!r:.80} is not the output of a node of flow {self._id}")
        return str(graph.node_of(returns))


def _deadline(timeout: Duration | None) -> float | None:
    return None if timeout is None else time.monotonic() + seconds(timeout, "timeout")


__all__ = ["FlowHandle", "UnknownFlow"]
