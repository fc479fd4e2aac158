"""Runs Calls from an event loop; the twin of `sync`, and the blocking reader of workers.

Owns the connections of one event loop. A read is never cancelled half way: a cancelled caller leaves
its exchange to finish by itself, since a reply that nobody reads is a task that nobody has.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from typing import Any, TypeVar

from redis import asyncio as aioredis
from redis import exceptions as lib
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from streamq.calls.call import Call
from streamq.errors import AuthenticationFailed, RedisError, RedisUnavailable, ServerError
from streamq.transport import server, topology, wire
from streamq.transport.address import Address
from streamq.transport.effort import Effort
from streamq.transport.faults import (
    ServerChanged,
    doubtful,
    final,
    gone,
    latest,
    naming_rights,
    told,
    translate,
)
from streamq.transport.gate import Gate
from streamq.transport.link import JUST, Link, Unsent, reset_told, serve
from streamq.transport.topology import MOST_HOPS, Discovery, Node, Redirect

R = TypeVar("R")


class _Bare:
    """As in `sync`."""

    _parser: Any

    async def on_connect(self) -> None:
        self._parser.on_connect(self)

    async def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: ARG002
        self._parser.on_connect(self)


_CLASSES: dict[str, Any] = {
    "tcp": type("TcpConnection", (_Bare, aioredis.Connection), {}),
    "tls": type("TlsConnection", (_Bare, aioredis.SSLConnection), {}),
    "unix": type("UnixConnection", (_Bare, aioredis.UnixDomainSocketConnection), {}),
}


async def connect(address: Address, *, effort: Effort, **more: Any) -> Any:
    """A connection of the client library that is logged in; raises its errors."""
    kwargs = wire.settings(address) | more
    most = kwargs["socket_timeout"] or wire.reply_timeout(address)
    connection = _CLASSES[address.kind](retry=Retry(NoBackoff(), 0), **kwargs)
    try:
        async with asyncio.timeout(effort.left()):
            with reset_told():
                await connection.connect()
                await _log_in(connection, address, most)
    except TimeoutError:
        await connection.disconnect(nowait=True)
        raise lib.TimeoutError(wire.SILENT) from None
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


async def _log_in(connection: Any, address: Address, most: float) -> None:
    commands = wire.login(address)
    reader, writer = connection._reader, connection._writer  # noqa: SLF001 - they have no public names
    try:
        async with asyncio.timeout(most):
            writer.write(wire.pack(commands))
            for command in commands:
                wire.welcome(command, await reader.readline())  # each answer is one line
    except ConnectionError:
        raise lib.ConnectionError(wire.CLOSED_AT_ONCE) from None
    except ValueError:
        raise lib.InvalidResponse(wire.NO_REDIS) from None


class AsyncTransport:
    """Runs calls on the servers behind an address, in one event loop. `patience`: seconds to try while
    one is away. `nobody_at`: when last of all servers nobody answered (monotonic)."""

    def __init__(self, address: Address, *, patience: float = 5.0) -> None:
        self.address = address
        self._patience = patience
        self.reply_timeout: float = wire.reply_timeout(address)
        self._topology = topology.of(address)
        self._discovering = asyncio.Lock()
        self._discoveries = 0
        self._nobody: lib.ConnectionError | None = None
        self.nobody_at: float = -math.inf
        self._under_way: set[asyncio.Task[Any]] = set()
        self._closed = False
        self.info: server.ServerInfo | None = None

    async def run(
        self,
        call: Call[R],
        *,
        patience: float | None = None,
        incarnation: str | None = None,
        unless_unsent: bool = False,
    ) -> R:
        """Ask the server, as SyncTransport.run does.

        incarnation: the one that the call is meant for; ServerChanged where it would be another's.
        unless_unsent: raise RedisUnavailable at once where the first try did not go out, for callers who may
        have changed their mind by the next.
        """
        patience = self._patience if patience is None else patience
        effort = Effort(patience, self.reply_timeout)
        try:
            return await self._attempt(call, effort, incarnation)
        except RedisUnavailable as error:
            if unless_unsent and not effort:
                raise
            return await self._persist(call, effort, error, incarnation)
        except (AuthenticationFailed, ServerError) as error:
            raise naming_rights(error, self.address.namespace.rights) from None

    async def _persist(self, call: Call[R], effort: Effort, error: RedisError, incarnation: str | None) -> R:
        try:
            for pause in effort.pauses():
                await asyncio.sleep(pause)
                effort.begin()
                try:
                    return await self._attempt(call, effort, incarnation)
                except RedisUnavailable as again:
                    error = latest(error, again)
                except RedisError as refusal:
                    error = refusal
                    break
            raise final(error, effort, call).with_traceback(None) from None
        finally:
            del error  # or it would hold this frame, and the frame the transport

    async def connected(self, call: Call[Any], *, patience: float) -> None:
        """Return when a connection is at hand on which the call could go out at once. Raises RedisErrors;
        nothing is sent."""
        node = self._topology.find(call)
        if node is not None and any(link.usable() for link in node.idle):
            return
        effort = Effort(patience, self.reply_timeout)
        error: RedisError = RedisUnavailable("")
        try:
            for pause in itertools.chain((0.0,), effort.pauses()):
                await asyncio.sleep(pause)
                effort.begin()
                try:
                    await self._connect_for(call, effort)
                except RedisUnavailable as again:
                    error = latest(error, again)
                else:
                    return
            raise error.with_traceback(None) from None
        finally:
            del error

    async def _connect_for(self, call: Call[Any], effort: Effort) -> None:
        node = self._topology.find(call) or await self.discovered(call, effort)
        try:
            await self._give(node, await self.open(node, effort))
        except (lib.RedisError, OSError) as error:
            await self.turn(node, error)
            raise translate(error, node.shown, self.address.source) from None

    async def _attempt(self, call: Call[R], effort: Effort, incarnation: str | None) -> R:
        """Ask who is to be asked, and whom that one sends us to."""
        node, asking = self._topology.find(call) or await self.discovered(call, effort), False
        for _ in range(MOST_HOPS):
            gate = node.gate
            if gate is None:
                gate = node.gate = Gate(wire.CONNECTIONS)
            if gate.free > 0:
                gate.free -= 1
            else:
                await self._wait(gate, node, effort)
            try:
                try:
                    reply = await self._send(node, call, effort, asking, incarnation)
                finally:
                    gate.leave()
            except (lib.RedisError, OSError) as error:
                redirect = await self.turn(node, error)
                if redirect is None:
                    raise translate(error, node.shown, self.address.source) from None
                node, asking = redirect
            else:
                return call.parse(reply)
        raise circles(node)

    async def _wait(self, gate: Gate, node: Node, effort: Effort) -> None:
        """As in SyncTransport."""
        try:
            await gate.wait(effort.left(whole=True))
        except (TimeoutError, lib.TimeoutError):
            busy = lib.TimeoutError(wire.ALL_BUSY)
            raise translate(busy, node.shown, self.address.source) from None
        effort.begin()

    async def turn(self, node: Node, error: Exception) -> Redirect | None:
        """What an error means for who is asked next."""
        redirect = self._topology.redirected(node, told(error))
        if redirect is not None and redirect[1]:
            return redirect
        if redirect is not None or doubtful(error):
            # What is known of the node's connections may be wrong, even if they live.
            await self._drop(node)
        if redirect is None and doubtful(error):
            self._topology.failed(node)
        return redirect

    async def discovered(self, call: Call[Any] | None, effort: Effort | None = None) -> Node:
        """Discover who is to be asked; one task asks around, the others wait for it. Where nobody answered
        it, nobody is asked again for them."""
        effort = Effort(0, self.reply_timeout) if effort is None else effort
        before = self._discoveries
        try:
            async with asyncio.timeout(effort.left()), self._discovering:
                node = self._topology.find(call)
                if node is not None:
                    return node
                if self._nobody is not None and self._discoveries != before:
                    raise self._translated(self._nobody)
                node = await self._discover(call, effort)
        except TimeoutError as error:
            raise self._translated(error) from None
        except lib.TimeoutError as error:
            raise self._translated(error) from None
        for other in self._topology.nodes():
            if not self._topology.serves(other):
                await self._drop(other)
        return node

    def _translated(self, error: Exception) -> RedisError:
        return translate(error, str(self.address), self.address.source)

    async def _discover(self, call: Call[Any] | None, effort: Effort) -> Node:
        self._nobody = None
        try:
            return await _drive(self._topology.discover(call), effort)
        except (lib.RedisError, OSError) as error:
            if isinstance(error, lib.ConnectionError):
                self._nobody, self.nobody_at = error, time.monotonic()
            raise self._translated(error) from None
        finally:
            self._discoveries += 1

    async def _send(
        self, node: Node, call: Call[Any], effort: Effort, asking: bool, incarnation: str | None
    ) -> Any:
        """One exchange with one node; raises the client library's errors. What did not go out on a connection
        that had been idle goes out on a new one, and so does a question whose answer its end took away."""
        while node.idle:
            link: Link = node.idle.pop()
            if effort.began - link.used > JUST and not link.usable():
                await link.aclose()
                continue
            if incarnation is not None:
                link = await self._meant(node, link, effort, incarnation)
            try:
                return await self._exchange(node, link, call, effort, asking, idle=True)
            except Unsent:
                continue
            except lib.ConnectionError:
                if not call.is_safe:
                    raise
                break
        link = await self.open(node, effort)
        if incarnation is not None:
            link = await self._meant(node, link, effort, incarnation)
        return await self._exchange(node, link, call, effort, asking)

    async def _meant(self, node: Node, link: Link, effort: Effort, incarnation: str) -> Link:
        """A connection to the incarnation that is meant. Raises ServerChanged."""
        if link.incarnation != incarnation:
            # What a connection said when it was opened may be long past: a new one tells what is.
            await link.aclose()
            await self._drop(node)
            link = await self.open(node, effort)
            if link.incarnation != incarnation:
                await self._give(node, link)
                raise ServerChanged(link.incarnation)
        return link

    async def _exchange(
        self,
        node: Node,
        link: Link,
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
                timeout = effort.reply(self.reply_timeout, waits=not plain)
            except lib.TimeoutError:
                await self._give(node, link)
                raise
        effort.sent += 1
        link.used = effort.began
        try:
            if asking or not plain:
                reply = await exchange(link, call, timeout, asking=asking)
            else:  # nearly every call: the same, in one step
                try:
                    reply = await link.ask(*wire.by_sha(call), timeout=timeout)
                except lib.NoScriptError:
                    reply = await link.ask(*wire.by_text(call), timeout=timeout)
        except lib.ResponseError:
            await self._give(node, link)
            effort.sent -= 1  # an answer, though a bad one
            raise
        except BaseException as error:
            await link.aclose()  # nobody else may read the reply under way
            if isinstance(error, Unsent):
                effort.sent -= 1
            raise
        if len(node.idle) < node.room and not self._closed:
            node.idle.append(link)
        else:
            await link.aclose()
        return reply

    async def tell(self, node: Node, call: Call[R]) -> R:
        """Ask a certain node, once. Raises RedisErrors."""
        try:
            return call.parse(await self._send(node, call, Effort(0, self.reply_timeout), False, None))
        except (lib.RedisError, OSError) as error:
            await self.turn(node, error)
            raise translate(error, node.shown, self.address.source) from None

    async def everywhere(self, call: Call[R]) -> dict[str, R]:
        """As SyncTransport.everywhere."""
        effort = Effort(self._patience, self.reply_timeout)
        await self.discovered(None, effort)
        nodes = [node for node in self._topology.nodes() if self._topology.serves(node)]
        return {node.shown: call.parse(await self._ask(node, call, effort)) for node in nodes}

    async def there(self, shown: str, call: Call[R]) -> R:
        """As SyncTransport.there."""
        for node in self._topology.nodes():
            if node.shown == shown and self._topology.serves(node):
                return call.parse(await self._ask(node, call, Effort(self._patience, self.reply_timeout)))
        raise gone(shown)

    async def _ask(self, node: Node, call: Call[Any], effort: Effort) -> Any:
        """Ask a certain node, in its turn."""
        effort.begin()
        gate = await self._entered(node, effort)
        try:
            return await self._send(node, call, effort, False, None)
        except (lib.RedisError, OSError) as error:
            await self.turn(node, error)
            failed = translate(error, node.shown, self.address.source)
            raise naming_rights(failed, self.address.namespace.rights) from None
        finally:
            gate.leave()

    async def _entered(self, node: Node, effort: Effort) -> Gate:
        """Return the gate of a node, with one of its permits taken."""
        gate: Gate = node.gate or Gate(wire.CONNECTIONS)
        node.gate = gate
        if gate.free > 0:
            gate.free -= 1
        else:
            await self._wait(gate, node, effort)
        return gate

    def find(self, call: Call[Any] | None) -> Node | None:
        """Who is to be asked, as far as that is known."""
        return self._topology.find(call)

    def serves(self, node: Node) -> bool:
        """Whether a node is still one of those that are asked."""
        return self._topology.serves(node)

    def servers(self) -> list[tuple[str, server.ServerInfo]]:
        """What the servers that we are connected to say of themselves, by address."""
        nodes = [node for node in self._topology.nodes() if self._topology.serves(node)]
        return [(node.shown, node.info) for node in nodes if node.info is not None]

    async def _give(self, node: Node, link: Link) -> None:
        if len(node.idle) < node.room and not self._closed:
            node.idle.append(link)
        else:
            await link.aclose()

    async def _drop(self, node: Node) -> None:
        idle, node.idle = node.idle, []
        for link in idle:
            await link.aclose()

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        """A task that is kept alive until it is done."""
        task: asyncio.Task[Any] = asyncio.ensure_future(coroutine)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def open(self, node: Node, effort: Effort | None = None) -> Link:
        """A new connection to a server that is new enough; raises the client library's errors."""
        effort = Effort(0, self.reply_timeout) if effort is None else effort
        link = serve(await connect(node.address, effort=effort))
        try:
            found = server.read(await link.ask(*wire.INFO, timeout=effort.left(self.reply_timeout)))
            server.check(found, node.shown)
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

    def abandon(self) -> None:
        """Close what is idle where the event loop is closed, and can do it no more."""
        for node in self._topology.nodes():
            idle, node.idle = node.idle, []
            for link in idle:
                link.abandon()

    async def settled_down(self, seconds: float = 1.0) -> None:
        """Wait for what was spawned, at most so long: a loop that is closed would tell of it as destroyed."""
        if self._under_way:
            await asyncio.wait(list(self._under_way), timeout=seconds)

    async def aclose(self) -> None:
        """Close what is idle now, and what is still under way when it is done."""
        self._closed = True
        for node in self._topology.nodes():
            await self._drop(node)


def circles(node: Node) -> RedisUnavailable:
    """The error where directions lead nowhere."""
    return RedisUnavailable(f"{node.shown} is not ready: the nodes send a call round in circles")


async def exchange(
    link: Link, call: Call[Any], timeout: float = wire.COMMAND_TIMEOUT, *, asking: bool = False
) -> Any:
    """One call on a connection; the script's text where the server does not know it."""
    if call.confirm is not None:
        return await _exchange_both(link, call, call.confirm, timeout, asking)
    try:
        if asking:
            await link.ask("ASKING", timeout=timeout)
        return await link.ask(*wire.by_sha(call), timeout=timeout)
    except lib.NoScriptError:
        if asking:
            await link.ask("ASKING", timeout=timeout)
        return await link.ask(*wire.by_text(call), timeout=timeout)


async def _exchange_both(
    link: Link, call: Call[Any], confirm: tuple[Any, ...], timeout: float, asking: bool
) -> tuple[Any, Any]:
    """A call and the command that confirms it, one after the other on one connection."""
    before = [("ASKING",)] if asking else []
    try:
        return wire.both(await link.ask_all([*before, wire.by_sha(call), confirm], timeout))
    except lib.NoScriptError:
        return wire.both(await link.ask_all([*before, wire.by_text(call), confirm], timeout))


async def _drive(discovery: Discovery, effort: Effort) -> Node:
    """Ask what a discovery wants to know, each on a connection of its own."""
    try:
        question = next(discovery)
        while True:
            try:
                reply = await _answer(*question, effort)
            except (RedisError, lib.RedisError, OSError) as error:
                question = discovery.throw(error)
            else:
                question = discovery.send(reply)
    except StopIteration as end:
        node: Node = end.value
        return node


async def _answer(address: Address, command: tuple[Any, ...], effort: Effort) -> Any:
    link = serve(await connect(address, effort=effort, **wire.HURRIED))
    try:
        return await link.ask(*command, timeout=effort.left(wire.HURRIED["socket_timeout"]))
    finally:
        await link.aclose()
