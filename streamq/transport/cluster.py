"""Cluster: a call goes to the node that has the slot of its keys.

Owns the map of slots, as one node described it and as redirections corrected it, and which nodes are suspect.
A MOVED corrects one slot; the whole map is read again when a node fails. Nodes become suspect one by one, so
that the loss of one stops no call to the others. Does no I/O: see `topology`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

from redis import exceptions as lib
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.crc import key_slot

from streamq.calls.call import AnyCall
from streamq.errors import ServerError
from streamq.transport.address import Address
from streamq.transport.topology import Discovered, Discovery, DiscoveryErrors, Node, Redirect


class Cluster(Discovered):
    """The nodes of a cluster."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._slots: list[Node | None] = [None] * SLOTS
        self._masters: set[Node] = set()
        self._suspects: set[Node] = set()
        self._informants: list[Address] = []

    def find(self, call: AnyCall | None) -> Node | None:
        if call is not None and call.keys:
            node = self._slots[key_slot(call.keys[0].encode())]
        else:
            serving = [node for node in self._masters if node not in self._suspects]
            node = random.choice(serving) if serving else None
        return None if node in self._suspects else node

    def failed(self, node: Node) -> None:
        self._suspects.add(node)

    def serves(self, node: Node) -> bool:
        return node in self._masters

    def redirected(self, node: Node, text: str) -> Redirect | None:
        try:
            word, slot, target_address = text.split(" ")
            host, _, port = target_address.rpartition(":")
            if word not in ("MOVED", "ASK"):
                return None
            target = self._node_at(node.address, host, int(port))
            if word == "MOVED":
                self._slots[int(slot)] = target
                self._masters.add(target)
        except (ValueError, IndexError):
            return None
        return target, word == "ASK"

    def discover(self, call: AnyCall | None) -> Discovery:
        errors = DiscoveryErrors()
        for informant in self._candidates():
            try:
                rows = yield informant, ("CLUSTER", "SLOTS")
            except (lib.RedisError, OSError) as error:
                errors.add(_no_cluster(error) or error, str(informant))
                continue
            self._learn(informant, rows if isinstance(rows, list) else [])
            node = self.find(call)
            if node is None:
                raise lib.ResponseError("CLUSTERDOWN no node serves the slot")
            return node
        raise errors.joined(f"no node of {self._address} answers")

    def _candidates(self) -> Iterable[Address]:
        """Return every known address, in random order, since a node that is cut off from the others must not
        be the first each time. Suspect nodes come last."""
        suspects = [node.address for node in self._suspects]
        known = [address for address in self._informants if address not in suspects]
        seeds = [seed for seed in self._address.seeds if seed not in known and seed not in suspects]
        return [*_shuffled(known), *_shuffled(seeds), *suspects]

    def _learn(self, informant: Address, rows: Sequence[Sequence[Any]]) -> None:
        """Read a reply to CLUSTER SLOTS."""
        slots: list[Node | None] = [None] * SLOTS
        informants: list[Address] = []
        for first, last, *listed in rows:
            nodes = [self._node_at(informant, (host or b"").decode(), port) for host, port, *_ in listed]
            slots[first : last + 1] = [nodes[0]] * (last - first + 1)
            informants += [node.address for node in nodes]
        self._slots, self._masters = slots, {node for node in slots if node is not None}
        self._informants = list(dict.fromkeys(informants))
        self._suspects = set()
        for name, node in list(self._nodes.items()):
            if node not in self._masters and not node.idle:
                node.room = 0
                del self._nodes[name]


def _shuffled(addresses: list[Address]) -> list[Address]:
    return random.sample(addresses, len(addresses))


def _no_cluster(error: Exception) -> ServerError | None:
    if "cluster support disabled" in str(error):
        return ServerError("it is not a node of a cluster: write its URL without +cluster")
    return None
