"""The sync connections to the nodes of one address: opened, kept while idle, used for one exchange each.

Owns the idle connections of a program's threads. Each is used by one thread at a time. Raises the client
library's errors. Must not choose a node, nor send a call again that may have been executed.
"""

from __future__ import annotations

from redis import exceptions as lib

from streamq.calls.call import AnyCall
from streamq.transport import server, wire
from streamq.transport.budget import Budget
from streamq.transport.sync_connect import connect
from streamq.transport.sync_link import SyncLink
from streamq.transport.topology import Node, Topology
from streamq.transport.wire import FRESH, NotSent


class SyncPool:
    """Connections to the nodes of a topology. info: of the server that was connected to last."""

    def __init__(self, topology: Topology, reply_timeout: float) -> None:
        self._topology = topology
        self._reply_timeout = reply_timeout
        self.info: server.ServerInfo | None = None

    def send(self, node: Node, call: AnyCall, budget: Budget, asking: bool = False) -> object:
        """Send a call to a node and return the raw reply. A call that was not sent on an idle connection is
        sent on a new one, and so is a question whose connection ended before the reply."""
        while node.idle:
            try:  # one step for all threads, so it needs no lock
                link: SyncLink = node.idle.pop()
            except IndexError:
                break
            if budget.began - link.used > FRESH and link.stale(0):
                link.close()
                continue
            try:
                return self._exchange(node, link, call, budget, asking, idle=True)
            except NotSent:
                continue
            except lib.ConnectionError:
                if not call.is_safe:
                    raise
                break
        return self._exchange(node, self.open(node, budget), call, budget, asking)

    def _exchange(
        self, node: Node, link: SyncLink, call: AnyCall, budget: Budget, asking: bool, *, idle: bool = False
    ) -> object:
        plain = call.confirm is None
        timeout = budget.first if idle and plain else 0.0
        if not timeout:
            try:
                timeout = budget.reply_timeout(self._reply_timeout, waits=not plain)
            except lib.TimeoutError:
                self.keep(node, link)
                raise
        budget.sent += 1
        link.used = budget.began
        try:
            if asking or not plain:
                reply = _exchange(link, call, timeout, asking)
            else:  # nearly every call: the same, in one step
                try:
                    reply = link.ask(*wire.by_sha(call), timeout=timeout)
                except lib.NoScriptError:
                    reply = link.ask(*wire.by_text(call), timeout=timeout)
        except (lib.ResponseError, lib.BusyLoadingError):
            self.keep(node, link)
            budget.sent -= 1  # there was a reply, though an error
            raise
        except BaseException as error:
            link.close()  # a reply may be on its way, which must not be read as another's
            if isinstance(error, NotSent):
                budget.sent -= 1
            raise
        if len(node.idle) < node.room:
            node.idle.append(link)
        else:
            link.close()
        return reply

    def open(self, node: Node, budget: Budget) -> SyncLink:
        """Return a new connection to a server that is new enough."""
        link = SyncLink(connect(node.address, budget=budget))
        try:
            reply = link.ask(*wire.INFO, timeout=budget.left(self._reply_timeout))
            found = server.parse_info(reply if isinstance(reply, bytes) else b"")
            server.check_version(found, node.shown)
            self._topology.accept(found)
        except lib.ReadOnlyError:
            link.close()
            raise
        except lib.ResponseError:  # a user without INFO: the version stays unknown
            return link
        except BaseException:
            link.close()
            raise
        self.info = node.info = found
        return link

    def keep(self, node: Node, link: SyncLink) -> None:
        """Keep an idle connection, unless there are enough."""
        if len(node.idle) < node.room:
            node.idle.append(link)
        else:
            link.close()

    def drop(self, node: Node) -> None:
        """Close a node's idle connections."""
        idle, node.idle = node.idle, []
        for link in idle:
            link.close()


def close_idle(topology: Topology) -> None:
    """Close all idle connections."""
    for node in topology.nodes():
        idle, node.idle = node.idle, []
        for link in idle:
            link.close()


def _exchange(link: SyncLink, call: AnyCall, timeout: float, asking: bool) -> object:
    """Send a call that is confirmed, or that ASKING precedes; with the script's text if the server lacks
    it."""
    try:
        commands = wire.in_one_write(call, wire.by_sha(call), asking=asking)
        return wire.reply_to(call, link.ask_all(commands, timeout))
    except lib.NoScriptError:
        commands = wire.in_one_write(call, wire.by_text(call), asking=asking)
        return wire.reply_to(call, link.ask_all(commands, timeout))
