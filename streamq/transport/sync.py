"""Runs Calls from plain code and threads.

Owns the connections of a program's threads and the resending of calls. Each connection is used by one
thread at a time. Safe to share between threads; after a fork the child starts with no connections.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any, TypeVar

import redis
from redis import exceptions as lib
from redis.backoff import NoBackoff
from redis.retry import Retry

from streamq.calls import Call
from streamq.errors import AuthenticationFailed, RedisError, RedisUnavailable, ServerError
from streamq.transport import server, topology, wire
from streamq.transport.address import Address
from streamq.transport.faults import doubtful, final, naming_rights, told, translate
from streamq.transport.link import SyncLink
from streamq.transport.patience import policy
from streamq.transport.topology import MOST_HOPS, Discovery, Node, Redirect

R = TypeVar("R")
_CLASSES: dict[str, Any] = {
    "tcp": redis.Connection,
    "tls": redis.SSLConnection,
    "unix": redis.UnixDomainSocketConnection,
}


def connect(address: Address, **more: Any) -> Any:
    """A connected connection of the client library; raises its errors."""
    kwargs = wire.settings(address) | more
    connection = _CLASSES[address.kind](retry=Retry(NoBackoff(), 0), **kwargs)
    connection.connect()
    return connection


class SyncTransport:
    """Runs calls on the servers behind an address. `patience`: seconds to try while one is away."""

    def __init__(self, address: Address, *, patience: float = 5.0) -> None:
        self.address = address
        self._patience = patience
        self._topology = topology.of(address)
        self._lock = threading.Lock()
        self._discovering = threading.Lock()
        self._gates: dict[Node, threading.Semaphore] = {}
        self.info: server.ServerInfo | None = None

    def run(self, call: Call[R], *, patience: float | None = None) -> R:
        """Ask the server, again while it is away; the same call twice has the effect of one.

        Raises RedisUnavailable when the patience is used up before the call could be sent,
        OutcomeUnknown when it was sent and no answer came, and other RedisErrors as they are answered.
        """
        sent: list[bool] = []
        try:
            return self._attempt(call, sent)
        except RedisUnavailable as error:
            return self._persist(call, sent, error, self._patience if patience is None else patience)
        except (AuthenticationFailed, ServerError) as error:
            raise naming_rights(error, self.address.namespace.rights) from None

    def everywhere(self, call: Call[R]) -> dict[str, R]:
        """Ask every node that holds data; answers by address. For what each server says of itself."""
        self.discovered(None)
        nodes = [node for node in self._topology.nodes() if self._topology.serves(node)]
        return {node.shown: call.parse(self._ask(node, call)) for node in nodes}

    def whoever(self, call: Call[R]) -> dict[str, R]:
        """As `everywhere`, of the nodes that answer. Raises RedisUnavailable where none does."""
        self.discovered(None)
        found: dict[str, R] = {}
        for node in self._topology.nodes():
            if self._topology.serves(node):
                with suppress(RedisUnavailable):
                    found[node.shown] = call.parse(self._ask(node, call))
        if not found:
            raise RedisUnavailable(f"no server at {self.address} answers")
        return found

    def there(self, shown: str, call: Call[R]) -> R:
        """Ask one of the nodes that `everywhere` named. Raises RedisErrors; RedisUnavailable where it is no
        longer one of those that hold data."""
        for node in self._topology.nodes():
            if node.shown == shown and self._topology.serves(node):
                return call.parse(self._ask(node, call))
        raise RedisUnavailable(f"{shown} holds no data any more: a failover, or its slots were moved")

    def _ask(self, node: Node, call: Call[Any]) -> Any:
        try:
            return self._send(node, call, [])
        except (lib.RedisError, OSError) as error:
            self.turn(node, error)
            raise translate(error, node.shown) from None

    def _persist(self, call: Call[R], sent: list[bool], first: RedisUnavailable, patience: float) -> R:
        # The first attempt has been made: no patience, no second.
        if patience <= 0:
            raise final(first, sent) from None
        from tenacity import Retrying  # noqa: PLC0415 - as in `patience`

        again = Retrying(**policy(patience))
        try:
            reply: R = again(self._attempt, call, sent)
        except RedisError as error:
            raise final(error, sent) from None
        return reply

    def _attempt(self, call: Call[R], sent: list[bool]) -> R:
        """Ask who is to be asked, and whom that one sends us to."""
        node, asking = self._topology.find(call) or self.discovered(call), False
        for _ in range(MOST_HOPS):
            try:
                with self._gate(node):
                    reply = self._send(node, call, sent, asking)
            except (lib.RedisError, OSError) as error:
                redirect = self.turn(node, error)
                if redirect is None:
                    raise translate(error, node.shown) from None
                node, asking = redirect
            else:
                return call.parse(reply)
        raise RedisUnavailable(f"{node.shown} is not ready: the nodes send a call round in circles")

    def _gate(self, node: Node) -> threading.Semaphore:
        """Bounds the connections to a node."""
        return self._gates.get(node) or self._gates.setdefault(node, threading.Semaphore(wire.CONNECTIONS))

    def turn(self, node: Node, error: Exception) -> Redirect | None:
        """What an error means for who is asked next."""
        redirect = self._topology.redirected(node, told(error))
        if redirect is not None and redirect[1]:
            return redirect
        if redirect is not None or doubtful(error):
            # What is known of the node's connections may be wrong, even if they live.
            self._drop(node)
        if redirect is None and doubtful(error):
            self._topology.failed(node)
        return redirect

    def discovered(self, call: Call[Any] | None) -> Node:
        """Discover who is to be asked; one thread asks around, the others wait for it."""
        with self._discovering:
            node = self._topology.find(call)
            if node is not None:
                return node
            try:
                node = _drive(self._topology.discover(call))
            except (lib.RedisError, OSError) as error:
                raise translate(error, str(self.address)) from None
        for other in self._topology.nodes():
            if not self._topology.serves(other):
                self._drop(other)
        return node

    def _send(self, node: Node, call: Call[Any], sent: list[bool], asking: bool = False) -> Any:
        """One exchange with one node; raises the client library's errors."""
        link = self._take(node)
        try:
            sent.append(True)
            reply = _exchange(link, call, asking)
        except (lib.ResponseError, lib.BusyLoadingError):
            self._give(node, link)
            sent.pop()  # an answer, though a bad one
            raise
        except BaseException:
            link.close()  # a reply may be under way: nobody else may read it
            raise
        self._give(node, link)
        return reply

    def _take(self, node: Node) -> SyncLink:
        try:  # one step for all threads, so it needs no lock
            link: SyncLink = node.idle.pop()
        except IndexError:
            return self.open(node)
        return link

    def _give(self, node: Node, link: SyncLink) -> None:
        if len(node.idle) < node.room:
            node.idle.append(link)
        else:
            link.close()

    def _drop(self, node: Node) -> None:
        idle, node.idle = node.idle, []
        for link in idle:
            link.close()

    def find(self, call: Call[Any] | None) -> Node | None:
        """Who is to be asked, as far as that is known."""
        return self._topology.find(call)

    def serves(self, node: Node) -> bool:
        """Whether a node is still one of those that are asked."""
        return self._topology.serves(node)

    def open(self, node: Node) -> SyncLink:
        """A new connection to a server that is new enough; raises the client library's errors."""
        link = SyncLink(connect(node.address))
        try:
            found = server.read(link.ask(*wire.INFO))
        except lib.ResponseError:  # a user without INFO: the version stays unknown
            return link
        try:
            server.check(found, node.shown)
            self._topology.accept(found)
        except BaseException:
            link.close()
            raise
        self.info = node.info = found
        return link

    def forget(self) -> None:
        """Start anew without touching the sockets: after a fork they are the parent's."""
        self._lock, self._discovering = threading.Lock(), threading.Lock()
        self._gates = {}
        for node in self._topology.nodes():
            node.idle = []

    def close(self) -> None:
        for node in self._topology.nodes():
            self._drop(node)


def _exchange(link: SyncLink, call: Call[Any], asking: bool) -> Any:
    """One call on a connection; the script's text where the server does not know it."""
    if call.confirm is not None:
        return _exchange_both(link, call, call.confirm, asking)
    try:
        if asking:
            link.ask("ASKING")
        return link.ask(*wire.by_sha(call))
    except lib.NoScriptError:
        if asking:
            link.ask("ASKING")
        return link.ask(*wire.by_text(call))


def _exchange_both(
    link: SyncLink, call: Call[Any], confirm: tuple[Any, ...], asking: bool
) -> tuple[Any, Any]:
    """A call and the command that confirms it, one after the other on one connection."""
    before = [("ASKING",)] if asking else []
    try:
        return wire.both(link.ask_all([*before, wire.by_sha(call), confirm]))
    except lib.NoScriptError:
        return wire.both(link.ask_all([*before, wire.by_text(call), confirm]))


def _drive(discovery: Discovery) -> Node:
    """Ask what a discovery wants to know, each on a connection of its own."""
    try:
        question = next(discovery)
        while True:
            try:
                reply = _answer(*question)
            except (RedisError, lib.RedisError, OSError) as error:
                question = discovery.throw(error)
            else:
                question = discovery.send(reply)
    except StopIteration as end:
        node: Node = end.value
        return node


def _answer(address: Address, command: tuple[Any, ...]) -> Any:
    link = SyncLink(connect(address, **wire.HURRIED))
    try:
        return link.ask(*command)
    finally:
        link.close()
