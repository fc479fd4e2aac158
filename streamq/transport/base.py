"""What the sync and the async transport share: the topology of an address, and what an error means for it.

Owns the choice of a topology and the decision after a failed exchange. Does no I/O.
"""

from __future__ import annotations

from typing import Final

from streamq.calls.call import AnyCall
from streamq.errors import RedisError
from streamq.transport import login
from streamq.transport.address import Address
from streamq.transport.cluster import Cluster
from streamq.transport.faults import naming_rights, node_removed, route_is_stale, server_text, translate
from streamq.transport.sentinel import Sentinel
from streamq.transport.server import ServerInfo
from streamq.transport.topology import Node, Redirect, Single, Topology

_KINDS: Final[dict[str, type[Topology]]] = {"sentinel": Sentinel, "cluster": Cluster}


def topology_of(address: Address) -> Topology:
    """Return the topology behind an address."""
    return _KINDS.get(address.kind, Single)(address)


class BaseTransport:
    """The nodes behind an address. patience: seconds to try a call while the server is unreachable.
    info: of the server that was connected to last."""

    def __init__(self, address: Address, patience: float) -> None:
        self.address = address
        self._patience = patience
        self.reply_timeout: float = login.reply_timeout(address)
        self._topology = topology_of(address)

    def find(self, call: AnyCall | None) -> Node | None:
        """Return the node for a call (any node without a call); None if it must be discovered."""
        return self._topology.find(call)

    def serves(self, node: Node) -> bool:
        """Return whether calls are still sent to a node."""
        return self._topology.serves(node)

    def servers(self) -> list[tuple[str, ServerInfo]]:
        """Return the facts of each server that is connected to, by its address."""
        return [(node.shown, node.info) for node in self._serving() if node.info is not None]

    def _serving(self) -> list[Node]:
        return [node for node in self._topology.nodes() if self._topology.serves(node)]

    def _named(self, shown: str) -> Node:
        """Return the node of that name. Raises RedisUnavailable if it no longer holds data."""
        for node in self._serving():
            if node.shown == shown:
                return node
        raise node_removed(shown)

    def _judge(self, node: Node, error: Exception) -> tuple[Redirect | None, bool]:
        """Return where an error redirects the call, and whether the node's idle connections must be dropped:
        what is known of them may be wrong even if they are open."""
        redirect = self._topology.redirected(node, server_text(error))
        if redirect is not None:
            return redirect, not redirect[1]
        stale = route_is_stale(error)
        if stale:
            self._topology.failed(node)
        return None, stale

    def _translated(self, node: Node, error: Exception) -> RedisError:
        return translate(error, node.shown, self.address.source)

    def _refused_at(self, node: Node, error: Exception) -> RedisError:
        return naming_rights(self._translated(node, error), self.address.namespace.rights)

    def _undiscovered(self, error: Exception) -> RedisError:
        return translate(error, str(self.address), self.address.source)
