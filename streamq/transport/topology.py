"""Which node is asked: the one server, the master that the sentinels name, or who has the key's slot.

Owns what is known of the nodes and when it is to be doubted. Does no I/O: where it must ask, it yields a
question (an address, a command) to whoever drives it, sync or async, and is sent the raw reply or thrown
the error. Resends nothing.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable
from typing import Any, Final

from redis import exceptions as lib
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.crc import key_slot

from streamq.calls.call import Call
from streamq.errors import ServerError
from streamq.transport import wire
from streamq.transport.address import Address
from streamq.transport.faults import denied
from streamq.transport.server import ServerInfo

MOST_HOPS: Final = 8
"""How often a call follows the nodes' directions in one attempt; more is a circle."""


class Node:
    """One server, with the idle connections that one transport has to it.

    shown: for errors, the URL as given with the node's own address where it is one of several.
    room: for so many idle connections; none where the node has been forgotten. gate: the transport's bound on
    its connections.
    """

    __slots__ = ("address", "gate", "idle", "info", "room", "shown")

    def __init__(self, address: Address, shown: str) -> None:
        self.address: Address = address
        self.shown: str = shown
        self.idle: list[Any] = []
        self.gate: Any = None
        self.room: int = wire.CONNECTIONS
        self.info: ServerInfo | None = None


Question = tuple[Address, tuple[Any, ...]]
Discovery = Generator[Question, Any, Node]
Redirect = tuple[Node, bool]
"""Whom to ask instead, and whether that takes an ASKING first."""


class Topology(ABC):
    """The nodes behind one address."""

    def __init__(self, address: Address) -> None:
        self._address = address

    @abstractmethod
    def find(self, call: Call[Any] | None) -> Node | None:
        """Who is to be asked; None where that must be discovered. No call: any node that answers."""

    @abstractmethod
    def discover(self, call: Call[Any] | None) -> Discovery:
        """Ask around; ends with the node for the call. Raises errors of the client library and ours."""

    @abstractmethod
    def nodes(self) -> list[Node]:
        """Every node that is known, also those that are no longer asked."""

    def failed(self, node: Node) -> None:  # noqa: B027 - there may be nobody else to ask
        """A node was away, or is not what it was: ask around before it is asked again."""

    def redirected(self, node: Node, text: str) -> Redirect | None:  # noqa: ARG002 - of one node there is no other
        """Where an error reply of a node sends the call; None where it is an answer."""
        return None

    def accept(self, info: ServerInfo) -> None:  # noqa: B027 - where anybody will do
        """Raise where a node that has just been connected to is not who it should be."""

    def serves(self, node: Node) -> bool:  # noqa: ARG002 - the one node always does
        """Whether a node is still among those that are asked."""
        return True


def of(address: Address) -> Topology:
    """The topology behind an address."""
    kinds: dict[str, type[Topology]] = {"sentinel": Sentinel, "cluster": Cluster}
    return kinds.get(address.kind, Single)(address)


class Single(Topology):
    """One server, which may have to be started first where it is embedded."""

    _node: Node | None = None

    def find(self, call: Call[Any] | None) -> Node | None:  # noqa: ARG002
        return self._node

    def discover(self, call: Call[Any] | None) -> Discovery:  # noqa: ARG002
        yield from ()
        self._node = Node(self._address.resolve(), str(self._address))
        return self._node

    def nodes(self) -> list[Node]:
        return [] if self._node is None else [self._node]


class _Several(Topology):
    """What both have that find their nodes by asking: seeds, and nodes that are the same object again."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._nodes: dict[tuple[str, int], Node] = {}

    def nodes(self) -> list[Node]:
        return list(self._nodes.values())

    def _node_at(self, asked: Address, host: str, port: int) -> Node:
        """The node of that name. One without a name is where the asked one is, as the servers mean it."""
        if host in ("", "?"):
            host = asked.arguments["host"]
        node = self._nodes.get((host, port))
        if node is None:
            address = self._address.node(host, port)
            node = self._nodes.setdefault((host, port), Node(address, str(address)))
        return node


class Sentinel(_Several):
    """The master that the sentinels name, as long as it says itself that it is one."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._sentinels = random.sample(address.seeds, len(address.seeds))
        self._master: Node | None = None

    def find(self, call: Call[Any] | None) -> Node | None:  # noqa: ARG002
        return self._master

    def failed(self, node: Node) -> None:
        if node is self._master:
            self._master = None

    def accept(self, info: ServerInfo) -> None:
        if info.role not in ("", "master"):
            raise lib.ReadOnlyError("it is a replica now")

    def serves(self, node: Node) -> bool:
        return node is self._master

    def discover(self, call: Call[Any] | None) -> Discovery:  # noqa: ARG002
        faults = _Faults()
        tried: set[Node] = set()
        for sentinel in list(self._sentinels):
            try:
                node = yield from self._ask(sentinel, tried)
            except (lib.RedisError, OSError, ServerError) as error:
                faults.add(error, str(sentinel))
                self._last(sentinel)
            else:
                self._master = node
                return node
        raise faults.of(f"no sentinel of {self._address} leads to a master")

    def _ask(self, sentinel: Address, tried: set[Node]) -> Discovery:
        """The master by the word of one sentinel."""
        named = yield sentinel, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.service)
        if named is None:
            raise ServerError(
                f"it knows no master called {self._address.service!r}: correct the name in the URL"
            )
        node = self._node_at(sentinel, named[0].decode(), int(named[1]))
        if node in tried:
            raise lib.ConnectionError(f"it names {node.address} too")
        tried.add(node)
        try:
            role = yield node.address, ("ROLE",)
        except lib.ResponseError as error:
            if not denied(error):
                raise
            return node  # this user may not ask; a replica will refuse to write
        if role[0] != b"master":
            raise lib.ConnectionError(f"it names {node.address}, which says that it is a {role[0].decode()}")
        return node

    def _last(self, sentinel: Address) -> None:
        """Ask this one after the others from now on."""
        self._sentinels = [*(one for one in self._sentinels if one is not sentinel), sentinel]


class Cluster(_Several):
    """Who has which slot, as one of the nodes told, and as the others correct it.

    A MOVED tells who has its slot now, and that is noted; the whole map is asked for anew when a node
    fails. Nodes are doubted one by one, so that the loss of one stops no call to the others.
    """

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._slots: list[Node | None] = [None] * SLOTS
        self._masters: set[Node] = set()
        self._doubted: set[Node] = set()
        self._informants: list[Address] = []

    def find(self, call: Call[Any] | None) -> Node | None:
        if call is not None and call.keys:
            node = self._slots[key_slot(call.keys[0].encode())]
        else:
            serving = [node for node in self._masters if node not in self._doubted]
            node = random.choice(serving) if serving else None
        return None if node in self._doubted else node

    def failed(self, node: Node) -> None:
        self._doubted.add(node)

    def serves(self, node: Node) -> bool:
        return node in self._masters

    def redirected(self, node: Node, text: str) -> Redirect | None:
        try:
            word, slot, place = text.split(" ")
            host, _, port = place.rpartition(":")
            if word not in ("MOVED", "ASK"):
                return None
            target = self._node_at(node.address, host, int(port))
            if word == "MOVED":
                self._slots[int(slot)] = target
                self._masters.add(target)
        except (ValueError, IndexError):
            return None
        return target, word == "ASK"

    def discover(self, call: Call[Any] | None) -> Discovery:
        faults = _Faults()
        for informant in self._in_turn():
            try:
                rows = yield informant, ("CLUSTER", "SLOTS")
            except (lib.RedisError, OSError) as error:
                faults.add(_no_cluster(error) or error, str(informant))
                continue
            self._learn(informant, rows)
            node = self.find(call)
            if node is None:
                raise lib.ResponseError("CLUSTERDOWN nobody serves the slot")
            return node
        raise faults.of(f"no node of {self._address} answers")

    def _in_turn(self) -> Iterable[Address]:
        """Every address we know, in any order: who is cut off from the others must not be asked first
        each time. Those that failed come last."""
        doubted = [node.address for node in self._doubted]
        known = [address for address in self._informants if address not in doubted]
        seeds = [seed for seed in self._address.seeds if seed not in known and seed not in doubted]
        return [*_shuffled(known), *_shuffled(seeds), *doubted]

    def _learn(self, informant: Address, rows: list[Any]) -> None:
        slots: list[Node | None] = [None] * SLOTS
        informants: list[Address] = []
        for first, last, *places in rows:
            nodes = [self._node_at(informant, (host or b"").decode(), port) for host, port, *_ in places]
            slots[first : last + 1] = [nodes[0]] * (last - first + 1)
            informants += [node.address for node in nodes]
        self._slots, self._masters = slots, {node for node in slots if node is not None}
        self._informants = list(dict.fromkeys(informants))
        self._doubted = set()
        for place, node in list(self._nodes.items()):
            if node not in self._masters and not node.idle:
                node.room = 0
                del self._nodes[place]


def _shuffled(addresses: list[Address]) -> list[Address]:
    return random.sample(addresses, len(addresses))


def _no_cluster(error: Exception) -> ServerError | None:
    if "cluster support disabled" in str(error):
        return ServerError("it is no node of a cluster: write its URL without +cluster")
    return None


class _Faults:
    """Why nobody could tell, in one error."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._final: Exception | None = None
        self._unavailable = False

    def add(self, error: Exception, where: str) -> None:
        self._texts.append(f"{where.partition(' of ')[0]}: {error}")
        if denied(error):
            self._final = error
        elif isinstance(error, ServerError):
            self._final = self._final or error
        else:
            self._unavailable = True

    def of(self, what: str) -> Exception:
        """One that is worth another try, where anybody may still know better; else what they said."""
        text = f"{what} ({'; '.join(self._texts)})"
        if self._final is None or self._unavailable:
            return lib.ConnectionError(text)
        if isinstance(self._final, ServerError):
            return ServerError(text)
        return lib.AuthenticationError(text)
