"""The async connections to the nodes of one address: opened, kept while idle, used for one exchange each.

Owns the idle connections of one event loop. Raises the client library's errors. Must not choose a node, nor
send a call again that may have been executed.
"""

from __future__ import annotations

from redis import exceptions as lib

from streamq.calls.call import AnyCall
from streamq.transport import server, wire
from streamq.transport.async_connect import connect
from streamq.transport.budget import Budget
from streamq.transport.faults import ServerChanged
from streamq.transport.link import Link, serve
from streamq.transport.topology import Node, Topology
from streamq.transport.wire import FRESH, NotSent


class AsyncPool:
    """Connections to the nodes of a topology. info: of the server that was connected to last."""

    def __init__(self, topology: Topology, reply_timeout: float) -> None:
        self._topology = topology
        self._reply_timeout = reply_timeout
        self._closed = False
        self.info: server.ServerInfo | None = None

    async def send(
        self, node: Node, call: AnyCall, budget: Budget, asking: bool = False, incarnation: str | None = None
    ) -> object:
        """Send a call to a node and return the raw reply. A call that was not sent on an idle connection is
        sent on a new one, and so is a question whose connection ended before the reply.

        Raises ServerChanged if the server is not the incarnation that the call is meant for.
        """
        while node.idle:
            link: Link = node.idle.pop()
            if budget.began - link.used > FRESH and not link.usable():
                await link.aclose()
                continue
            if incarnation is not None:
                link = await self._to_incarnation(node, link, budget, incarnation)
            try:
                return await self._exchange(node, link, call, budget, asking, idle=True)
            except NotSent:
                continue
            except lib.ConnectionError:
                if not call.is_safe:
                    raise
                break
        link = await self.open(node, budget)
        if incarnation is not None:
            link = await self._to_incarnation(node, link, budget, incarnation)
        return await self._exchange(node, link, call, budget, asking)

    async def _to_incarnation(self, node: Node, link: Link, budget: Budget, incarnation: str) -> Link:
        """Return a connection to an incarnation of the server. Raises ServerChanged."""
        if link.incarnation != incarnation:
            # What a connection learnt when it was opened may be outdated: a new one has the current state.
            await link.aclose()
            await self.drop(node)
            link = await self.open(node, budget)
            if link.incarnation != incarnation:
                await self.keep(node, link)
                raise ServerChanged(link.incarnation)
        return link

    async def _exchange(
        self, node: Node, link: Link, call: AnyCall, budget: Budget, asking: bool, *, idle: bool = False
    ) -> object:
        plain = call.confirm is None
        timeout = budget.first if idle and plain else 0.0
        if not timeout:
            try:
                timeout = budget.reply_timeout(self._reply_timeout, waits=not plain)
            except lib.TimeoutError:
                await self.keep(node, link)
                raise
        budget.sent += 1
        link.used = budget.began
        try:
            if asking or not plain:
                reply = await exchange(link, call, timeout, asking=asking)
            else:  # nearly every call: the same, in one step
                try:
                    reply = await link.ask(*wire.by_sha(call), timeout=timeout)
                except lib.NoScriptError:
                    reply = await link.ask(*wire.by_text(call), timeout=timeout)
        except lib.ResponseError:
            await self.keep(node, link)
            budget.sent -= 1  # there was a reply, though an error
            raise
        except BaseException as error:
            await link.aclose()  # a reply may be on its way, which must not be read as another's
            if isinstance(error, NotSent):
                budget.sent -= 1
            raise
        if len(node.idle) < node.room and not self._closed:
            node.idle.append(link)
        else:
            await link.aclose()
        return reply

    async def open(self, node: Node, budget: Budget) -> Link:
        """Return a new connection to a server that is new enough."""
        link = serve(await connect(node.address, budget=budget))
        try:
            reply = await link.ask(*wire.INFO, timeout=budget.left(self._reply_timeout))
            found = server.parse_info(reply if isinstance(reply, bytes) else b"")
            server.check_version(found, node.shown)
            self._topology.accept(found)
        except lib.ReadOnlyError:
            await link.aclose()
            raise
        except lib.ResponseError:  # a user without INFO: the version stays unknown
            return link
        except BaseException:
            await link.aclose()
            raise
        self.info = node.info = found
        link.incarnation = found.incarnation
        return link

    async def keep(self, node: Node, link: Link) -> None:
        """Keep an idle connection, unless there are enough."""
        if len(node.idle) < node.room and not self._closed:
            node.idle.append(link)
        else:
            await link.aclose()

    async def drop(self, node: Node) -> None:
        """Close a node's idle connections."""
        idle, node.idle = node.idle, []
        for link in idle:
            await link.aclose()

    def abandon(self) -> None:
        """Close idle connections after the event loop was closed, which can no longer do it."""
        for node in self._topology.nodes():
            idle, node.idle = node.idle, []
            for link in idle:
                link.abandon()

    async def aclose(self) -> None:
        """Close idle connections now, and those in use when they become idle."""
        self._closed = True
        for node in self._topology.nodes():
            await self.drop(node)


async def exchange(
    link: Link, call: AnyCall, timeout: float = wire.COMMAND_TIMEOUT, *, asking: bool = False
) -> object:
    """Send a call on a connection, with the script's text if the server lacks it; return the raw reply."""
    if call.confirm is None and not asking:
        try:
            return await link.ask(*wire.by_sha(call), timeout=timeout)
        except lib.NoScriptError:
            return await link.ask(*wire.by_text(call), timeout=timeout)
    try:
        commands = wire.in_one_write(call, wire.by_sha(call), asking=asking)
        return wire.reply_to(call, await link.ask_all(commands, timeout))
    except lib.NoScriptError:
        commands = wire.in_one_write(call, wire.by_text(call), asking=asking)
        return wire.reply_to(call, await link.ask_all(commands, timeout))
