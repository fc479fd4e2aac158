"""Which node a call is sent to: the nodes behind an address, and how they are discovered.

Owns the interface of a topology and the plain one, a single server; see `sentinel` and `cluster` for the
others. Does no I/O: a discovery is a generator that yields questions (an address, a command) to its sync or
async driver, and is sent the raw reply or thrown the error. Must not send a call again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import Any, Final

from redis import exceptions as lib

from streamq.calls.call import AnyCall
from streamq.errors import ServerError
from streamq.transport import wire
from streamq.transport.address import Address
from streamq.transport.faults import denied
from streamq.transport.server import ServerInfo
from streamq.transport.wire import Command

MOST_HOPS: Final = 8
"""Redirections that a call follows in one try; more are a circle."""


class Node:
    """One server, with the idle connections that one transport has to it.

    shown: for error texts, the URL as given, with the node's own address if it is one of several. room: idle
    connections at most; 0 once the node is forgotten. limit: the transport's limit on its connections.
    """

    __slots__ = ("address", "idle", "info", "limit", "room", "shown")

    def __init__(self, address: Address, shown: str) -> None:
        self.address: Address = address
        self.shown: str = shown
        self.idle: list[Any] = []  # of SyncLink or of Link, as the transport is
        self.limit: Any = None
        self.room: int = wire.MAX_CONNECTIONS
        self.info: ServerInfo | None = None


Question = tuple[Address, Command]
Discovery = Generator[Question, object, Node]
Redirect = tuple[Node, bool]
"""The node to send the call to instead, and whether ASKING must precede it."""


class Topology(ABC):
    """The nodes behind one address."""

    def __init__(self, address: Address) -> None:
        self._address = address

    @abstractmethod
    def find(self, call: AnyCall | None) -> Node | None:
        """Return the node for a call; None if it must be discovered. Without a call: any node."""

    @abstractmethod
    def discover(self, call: AnyCall | None) -> Discovery:
        """Discover the nodes; return the one for the call. Raises errors of the client library and
        streamq's."""

    @abstractmethod
    def nodes(self) -> list[Node]:
        """Return every known node, also those that calls are no longer sent to."""

    def failed(self, node: Node) -> None:  # noqa: B027 - a single server has no alternative
        """Note that a node was unreachable or changed its role: discover before the next call to it."""

    def redirected(self, node: Node, text: str) -> Redirect | None:  # noqa: ARG002 - a single server redirects nothing
        """Return where an error reply of a node redirects the call; None if it does not."""
        return None

    def accept(self, info: ServerInfo) -> None:  # noqa: B027 - a single server may have any role
        """Raise an error if a node that was just connected to has the wrong role."""

    def serves(self, node: Node) -> bool:  # noqa: ARG002 - the single server always does
        """Return whether calls are still sent to a node."""
        return True


class Single(Topology):
    """One server. An embedded one is started by the discovery."""

    _node: Node | None = None

    def find(self, call: AnyCall | None) -> Node | None:  # noqa: ARG002
        return self._node

    def discover(self, call: AnyCall | None) -> Discovery:  # noqa: ARG002
        yield from ()
        self._node = Node(self._address.resolve(), str(self._address))
        return self._node

    def nodes(self) -> list[Node]:
        return [] if self._node is None else [self._node]


class Discovered(Topology):
    """A topology whose nodes are learnt from servers. Keeps one object for each node."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._nodes: dict[tuple[str, int], Node] = {}

    def nodes(self) -> list[Node]:
        return list(self._nodes.values())

    def _node_at(self, informant: Address, host: str, port: int) -> Node:
        """Return the node of that name. Without a name it is on the informant's own host."""
        if host in ("", "?"):
            host = informant.arguments["host"]
        node = self._nodes.get((host, port))
        if node is None:
            address = self._address.node(host, port)
            node = self._nodes.setdefault((host, port), Node(address, str(address)))
        return node


class DiscoveryErrors:
    """Collects the errors of a failed discovery into one."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._refusal: Exception | None = None
        self._unreachable = False

    def add(self, error: Exception, where: str) -> None:
        """Add the error of one server."""
        self._texts.append(f"{where.partition(' of ')[0]}: {error}")
        if denied(error):
            self._refusal = error
        elif isinstance(error, ServerError):
            self._refusal = self._refusal or error
        else:
            self._unreachable = True

    def joined(self, what: str) -> Exception:
        """Return one error: one that is worth another try if a server was unreachable, else the refusal."""
        text = f"{what} ({'; '.join(self._texts)})"
        if self._refusal is None or self._unreachable:
            return lib.ConnectionError(text)
        if isinstance(self._refusal, ServerError):
            return ServerError(text)
        return lib.AuthenticationError(text)
