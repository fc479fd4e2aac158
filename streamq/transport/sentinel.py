"""Sentinel: calls go to the master that the sentinels name, as long as it confirms that role.

Owns the order in which sentinels are asked, and the current master. Does no I/O: see `topology`.
"""

from __future__ import annotations

import random

from redis import exceptions as lib

from streamq.calls.call import AnyCall
from streamq.errors import ServerError
from streamq.transport.address import Address
from streamq.transport.faults import denied
from streamq.transport.server import ServerInfo
from streamq.transport.topology import Discovered, Discovery, DiscoveryErrors, Node


class Sentinel(Discovered):
    """The master behind some sentinels."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._sentinels = random.sample(address.seeds, len(address.seeds))
        self._master: Node | None = None

    def find(self, call: AnyCall | None) -> Node | None:  # noqa: ARG002
        return self._master

    def failed(self, node: Node) -> None:
        if node is self._master:
            self._master = None

    def accept(self, info: ServerInfo) -> None:
        if info.role not in ("", "master"):
            raise lib.ReadOnlyError("it is a replica now")

    def serves(self, node: Node) -> bool:
        return node is self._master

    def discover(self, call: AnyCall | None) -> Discovery:  # noqa: ARG002
        errors = DiscoveryErrors()
        tried: set[Node] = set()
        for sentinel in list(self._sentinels):
            try:
                node = yield from self._ask(sentinel, tried)
            except (lib.RedisError, OSError, ServerError) as error:
                errors.add(error, str(sentinel))
                self._move_last(sentinel)
            else:
                self._master = node
                return node
        raise errors.joined(f"no sentinel of {self._address} leads to a master")

    def _ask(self, sentinel: Address, tried: set[Node]) -> Discovery:
        """Return the master that one sentinel names."""
        named = yield sentinel, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.service)
        if not isinstance(named, list):
            raise ServerError(
                f"it knows no master named {self._address.service!r}: correct the name in the URL"
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
            return node  # this user may not ask; a replica will refuse writes
        name = role[0].decode() if isinstance(role, list) else ""
        if name != "master":
            raise lib.ConnectionError(f"it names {node.address}, whose role is {name}")
        return node

    def _move_last(self, sentinel: Address) -> None:
        """Ask this sentinel after the others from now on."""
        self._sentinels = [*(one for one in self._sentinels if one is not sentinel), sentinel]
