"""Runs Calls from plain code and threads.

Owns the connections of a program's threads and the resending of calls. Each connection is used by one
thread at a time. Safe to share between threads; after a fork the child starts with no connections.
"""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import redis
from redis import exceptions as lib
from redis.backoff import NoBackoff
from redis.retry import Retry

from streamq.calls.call import Call
from streamq.errors import AuthenticationFailed, RedisError, RedisUnavailable, ServerError
from streamq.transport import names, server, topology, wire
from streamq.transport.address import Address
from streamq.transport.effort import Effort
from streamq.transport.faults import doubtful, final, gone, latest, naming_rights, told, translate
from streamq.transport.link import JUST, SyncLink, Unsent
from streamq.transport.topology import MOST_HOPS, Discovery, Node, Redirect

R = TypeVar("R")


class _Bare:
    """In the place of the library's own login: its parser reads from this socket, and that is all."""

    _parser: Any

    def on_connect(self) -> None:
        self._parser.on_connect(self)

    def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: ARG002 - as the library has it
        self._parser.on_connect(self)


class _Timed(redis.Connection):
    """Looks its host up and tries each of its addresses within the time of one effort; the library would take
    the whole time for each address, and any for the lookup."""

    effort: Effort

    def _connect(self) -> Any:
        connect: Any = super()._connect
        if names.is_address(self.host):
            return connect()
        name, most = self.host, float(self.socket_connect_timeout or wire.CONNECT_TIMEOUT)
        places = names.looked_up(name, self.effort.left())
        for n, place in enumerate(places, 1):
            try:
                self.host = place
                self.socket_connect_timeout = self.effort.left(most) / (len(places) - n + 1)
                return connect()
            except OSError:
                if n == len(places):
                    raise
            finally:
                self.host, self.socket_connect_timeout = name, most
        raise OSError(f"{name} has no address")


_CLASSES: dict[str, Any] = {
    "tcp": type("TcpConnection", (_Bare, _Timed), {}),
    "tls": type("TlsConnection", (_Bare, redis.SSLConnection, _Timed), {}),
    "unix": type("UnixConnection", (_Bare, redis.UnixDomainSocketConnection), {}),
}


def connect(address: Address, *, effort: Effort, **more: Any) -> Any:
    """A connection of the client library that is logged in; raises its errors."""
    kwargs = wire.settings(address) | more
    for name in ("socket_connect_timeout", "socket_timeout"):
        kwargs[name] = effort.left(kwargs[name])
    connection = _CLASSES[address.kind](retry=Retry(NoBackoff(), 0), **kwargs)
    connection.effort = effort
    try:
        connection.connect()
        _log_in(connection._sock, address, effort, kwargs["socket_timeout"])  # noqa: SLF001 - it has no public name
    except BaseException:
        connection.disconnect()
        raise
    return connection


def _log_in(socket: Any, address: Address, effort: Effort, most: float) -> None:
    commands = wire.login(address)
    try:
        socket.settimeout(effort.left(most))
        with suppress(OSError):  # a server that turns us away has said why before it closed
            socket.sendall(wire.pack(commands))
        with socket.makefile("rb") as lines:  # each answer is one line, and nothing comes unasked
            for command in commands:
                socket.settimeout(effort.left(most))
                wire.welcome(command, lines.readline(wire.LONGEST_LINE))
    except TimeoutError:
        raise lib.TimeoutError(wire.SILENT) from None
    except ConnectionError:
        raise lib.ConnectionError(wire.CLOSED_AT_ONCE) from None


class SyncTransport:
    """Runs calls on the servers behind an address. `patience`: seconds to try while one is away."""

    def __init__(self, address: Address, *, patience: float = 5.0) -> None:
        self.address = address
        self._patience = patience
        self._reply_timeout = wire.reply_timeout(address)
        self._topology = topology.of(address)
        self._lock = threading.Lock()
        self._discovering = threading.Lock()
        self.info: server.ServerInfo | None = None
        # Whoever forgets to close leaves no open socket: the system would be told by its collector, loudly.
        weakref.finalize(self, _close_idle, self._topology).atexit = False

    def run(self, call: Call[R], *, patience: float | None = None) -> R:
        """Ask the server, again while it is away; the same call twice has the effect of one.

        Nothing in it waits longer than the patience; without any there is one try. Raises RedisUnavailable
        when the patience is used up before the call could be sent, OutcomeUnknown when it was sent and no
        answer came to what is more than a question, and other RedisErrors as they are answered.
        """
        patience = self._patience if patience is None else patience
        effort = Effort(patience, self._reply_timeout)
        try:
            return self._attempt(call, effort)
        except RedisUnavailable as error:
            return self._persist(call, effort, error)
        except (AuthenticationFailed, ServerError) as error:
            raise naming_rights(error, self.address.namespace.rights) from None

    def everywhere(self, call: Call[R]) -> dict[str, R]:
        """Ask every node that holds data, once; answers by address. For what each server says of itself.
        Nothing in it waits longer than the patience."""
        effort = Effort(self._patience, self._reply_timeout)
        return {node.shown: call.parse(self._ask(node, call, effort)) for node in self._serving(effort)}

    def whoever(self, call: Call[R]) -> dict[str, R]:
        """As `everywhere`, of the nodes that answer. Raises RedisUnavailable where none does."""
        effort = Effort(self._patience, self._reply_timeout)
        found: dict[str, R] = {}
        for node in self._serving(effort):
            with suppress(RedisUnavailable):
                found[node.shown] = call.parse(self._ask(node, call, effort))
        if not found:
            raise RedisUnavailable(f"no server at {self.address} answers")
        return found

    def there(self, shown: str, call: Call[R]) -> R:
        """Ask one of the nodes that `everywhere` named, within the patience. Raises RedisErrors;
        RedisUnavailable where it is no longer one of those that hold data."""
        for node in self._topology.nodes():
            if node.shown == shown and self._topology.serves(node):
                return call.parse(self._ask(node, call, Effort(self._patience, self._reply_timeout)))
        raise gone(shown)

    def _serving(self, effort: Effort) -> list[Node]:
        self.discovered(None, effort)
        return [node for node in self._topology.nodes() if self._topology.serves(node)]

    def _ask(self, node: Node, call: Call[Any], effort: Effort) -> Any:
        effort.begin()
        try:
            return self._send(node, call, effort)
        except (lib.RedisError, OSError) as error:
            self.turn(node, error)
            failed = translate(error, node.shown, self.address.source)
            raise naming_rights(failed, self.address.namespace.rights) from None

    def _persist(self, call: Call[R], effort: Effort, error: RedisError) -> R:
        try:
            for pause in effort.pauses():
                time.sleep(pause)
                effort.begin()
                try:
                    return self._attempt(call, effort)
                except RedisUnavailable as again:
                    error = latest(error, again)
                except RedisError as refusal:
                    error = refusal
                    break
            raise final(error, effort, call).with_traceback(None) from None
        finally:
            del error  # or it would hold this frame, and the frame the transport

    def _attempt(self, call: Call[R], effort: Effort) -> R:
        """Ask who is to be asked, and whom that one sends us to."""
        node, asking = self._topology.find(call) or self.discovered(call, effort), False
        for _ in range(MOST_HOPS):
            gate = node.gate or self._gate(node)
            try:
                gate.get_nowait()
            except Empty:
                self._wait(gate, node, effort)
            try:
                reply = self._send(node, call, effort, asking)
            except (lib.RedisError, OSError) as error:
                redirect = self.turn(node, error)
                if redirect is None:
                    raise translate(error, node.shown, self.address.source) from None
                node, asking = redirect
            else:
                return call.parse(reply)
            finally:
                gate.put(None)
        raise RedisUnavailable(f"{node.shown} is not ready: the nodes send a call round in circles")

    def _gate(self, node: Node) -> SimpleQueue[None]:
        """Bounds the connections to a node: who has taken one of its permits may use one. A semaphore would
        do the same, in Python and not in C."""
        gate: SimpleQueue[None] = SimpleQueue()
        for _ in range(wire.CONNECTIONS):
            gate.put(None)
        with self._lock:
            if node.gate is None:
                node.gate = gate
        found: SimpleQueue[None] = node.gate
        return found

    def _wait(self, gate: SimpleQueue[None], node: Node, effort: Effort) -> None:
        """Wait for a permit as long as the call has time; then the try begins."""
        try:
            gate.get(timeout=effort.left(whole=True))
        except (Empty, lib.TimeoutError):
            busy = lib.TimeoutError(wire.ALL_BUSY)
            raise translate(busy, node.shown, self.address.source) from None
        effort.begin()

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

    def discovered(self, call: Call[Any] | None, effort: Effort | None = None) -> Node:
        """Discover who is to be asked; one thread asks around, the others wait for it."""
        effort = Effort(0, self._reply_timeout) if effort is None else effort
        try:
            if not self._discovering.acquire(timeout=effort.left()):
                raise lib.TimeoutError("another thread is still asking who is to be asked")
            try:
                node = self._topology.find(call)
                if node is not None:
                    return node
                node = _drive(self._topology.discover(call), effort)
            finally:
                self._discovering.release()
        except (lib.RedisError, OSError) as error:
            raise translate(error, str(self.address), self.address.source) from None
        for other in self._topology.nodes():
            if not self._topology.serves(other):
                self._drop(other)
        return node

    def _send(self, node: Node, call: Call[Any], effort: Effort, asking: bool = False) -> Any:
        """One exchange with one node; raises the client library's errors. What did not go out on a connection
        that had been idle goes out on a new one, and so does a question whose answer its end took away."""
        while node.idle:
            try:  # one step for all threads, so it needs no lock
                link: SyncLink = node.idle.pop()
            except IndexError:
                break
            if effort.began - link.used > JUST and link.stale(0):
                link.close()
                continue
            try:
                return self._exchange(node, link, call, effort, asking, idle=True)
            except Unsent:
                continue
            except lib.ConnectionError:
                if not call.is_safe:
                    raise
                break
        return self._exchange(node, self.open(node, effort), call, effort, asking)

    def _exchange(
        self,
        node: Node,
        link: SyncLink,
        call: Call[Any],
        effort: Effort,
        asking: bool,
        *,
        idle: bool = False,
    ) -> Any:
        plain = call.confirm is None
        timeout = effort.first if idle and plain else 0.0
        if not timeout:
            try:
                timeout = effort.reply(self._reply_timeout, waits=not plain)
            except lib.TimeoutError:
                self._give(node, link)
                raise
        effort.sent += 1
        link.used = effort.began
        try:
            if asking or not plain:
                reply = _exchange(link, call, timeout, asking)
            else:  # nearly every call: the same, in one step
                try:
                    reply = link.ask(*wire.by_sha(call), timeout=timeout)
                except lib.NoScriptError:
                    reply = link.ask(*wire.by_text(call), timeout=timeout)
        except (lib.ResponseError, lib.BusyLoadingError):
            self._give(node, link)
            effort.sent -= 1  # an answer, though a bad one
            raise
        except BaseException as error:
            link.close()  # a reply may be under way: nobody else may read it
            if isinstance(error, Unsent):
                effort.sent -= 1
            raise
        if len(node.idle) < node.room:
            node.idle.append(link)
        else:
            link.close()
        return reply

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

    def open(self, node: Node, effort: Effort | None = None) -> SyncLink:
        """A new connection to a server that is new enough; raises the client library's errors."""
        effort = Effort(0, self._reply_timeout) if effort is None else effort
        link = SyncLink(connect(node.address, effort=effort))
        try:
            found = server.read(link.ask(*wire.INFO, timeout=effort.left(self._reply_timeout)))
        except lib.ResponseError:  # a user without INFO: the version stays unknown
            return link
        except BaseException:
            link.close()
            raise
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
        for node in self._topology.nodes():
            node.idle, node.gate = [], None

    def close(self) -> None:
        _close_idle(self._topology)


def _close_idle(known: topology.Topology) -> None:
    for node in known.nodes():
        idle, node.idle = node.idle, []
        for link in idle:
            link.close()


def _exchange(link: SyncLink, call: Call[Any], timeout: float, asking: bool) -> Any:
    """One call on a connection; the script's text where the server does not know it."""
    if call.confirm is not None:
        return _exchange_both(link, call, call.confirm, timeout, asking)
    try:
        if asking:
            link.ask("ASKING", timeout=timeout)
        return link.ask(*wire.by_sha(call), timeout=timeout)
    except lib.NoScriptError:
        if asking:
            link.ask("ASKING", timeout=timeout)
        return link.ask(*wire.by_text(call), timeout=timeout)


def _exchange_both(
    link: SyncLink, call: Call[Any], confirm: tuple[Any, ...], timeout: float, asking: bool
) -> tuple[Any, Any]:
    """A call and the command that confirms it, one after the other on one connection."""
    before = [("ASKING",)] if asking else []
    try:
        return wire.both(link.ask_all([*before, wire.by_sha(call), confirm], timeout))
    except lib.NoScriptError:
        return wire.both(link.ask_all([*before, wire.by_text(call), confirm], timeout))


def _drive(discovery: Discovery, effort: Effort) -> Node:
    """Ask what a discovery wants to know, each on a connection of its own."""
    try:
        question = next(discovery)
        while True:
            try:
                reply = _answer(*question, effort)
            except (RedisError, lib.RedisError, OSError) as error:
                question = discovery.throw(error)
            else:
                question = discovery.send(reply)
    except StopIteration as end:
        node: Node = end.value
        return node


def _answer(address: Address, command: tuple[Any, ...], effort: Effort) -> Any:
    link = SyncLink(connect(address, effort=effort, **wire.HURRIED))
    try:
        return link.ask(*command, timeout=effort.left(wire.HURRIED["socket_timeout"]))
    finally:
        link.close()
