"""Runs Calls from an event loop; the twin of `sync`, and the blocking reader of workers.

Owns the connections of one event loop. A read is never cancelled half way: a cancelled caller leaves
its exchange to finish by itself, since a reply that nobody reads is a task that nobody has.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any, TypeVar

from redis import asyncio as aioredis
from redis import exceptions as lib
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from streamq.calls import Call
from streamq.errors import AuthenticationFailed, RedisError, RedisUnavailable, ServerError
from streamq.transport import server, topology, wire
from streamq.transport.address import Address
from streamq.transport.faults import ServerChanged, doubtful, final, naming_rights, told, translate
from streamq.transport.link import Link, reset_told, serve
from streamq.transport.patience import policy
from streamq.transport.topology import MOST_HOPS, Discovery, Node, Redirect

R = TypeVar("R")
_CLASSES: dict[str, Any] = {
    "tcp": aioredis.Connection,
    "tls": aioredis.SSLConnection,
    "unix": aioredis.UnixDomainSocketConnection,
}


async def connect(address: Address, **more: Any) -> Any:
    """A connected connection of the client library; raises its errors."""
    kwargs = wire.settings(address) | more
    connection = _CLASSES[address.kind](retry=Retry(NoBackoff(), 0), **kwargs)
    try:
        with reset_told():
            await connection.connect()
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


class AsyncTransport:
    """Runs calls on the servers behind an address, in one event loop. `patience`: seconds to try while
    one is away. `nobody_at`: when last of all servers nobody answered (monotonic)."""

    def __init__(self, address: Address, *, patience: float = 5.0) -> None:
        self.address = address
        self._patience = patience
        self._topology = topology.of(address)
        self._discovering = asyncio.Lock()
        self._discoveries = 0
        self._nobody: lib.ConnectionError | None = None
        self.nobody_at = -math.inf
        self._under_way: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._gates: dict[Node, asyncio.Semaphore] = {}
        self.info: server.ServerInfo | None = None

    async def run(self, call: Call[R], *, patience: float | None = None, incarnation: str | None = None) -> R:
        """Ask the server, as SyncTransport.run does.

        incarnation: the one that the call is meant for; ServerChanged where it would be another's.
        """
        sent: list[bool] = []
        try:
            return await self._attempt(call, sent, incarnation)
        except RedisUnavailable as error:
            patience = self._patience if patience is None else patience
            return await self._persist(call, sent, error, patience, incarnation)
        except (AuthenticationFailed, ServerError) as error:
            raise naming_rights(error, self.address.namespace.rights) from None

    async def _persist(
        self,
        call: Call[R],
        sent: list[bool],
        first: RedisUnavailable,
        patience: float,
        incarnation: str | None,
    ) -> R:
        if patience <= 0:
            raise final(first, sent) from None
        from tenacity import AsyncRetrying  # noqa: PLC0415 - as in `patience`

        again = AsyncRetrying(**policy(patience))
        try:
            return await again(self._attempt, call, sent, incarnation)
        except RedisError as error:
            raise final(error, sent) from None

    async def _attempt(self, call: Call[R], sent: list[bool], incarnation: str | None) -> R:
        """Ask who is to be asked, and whom that one sends us to."""
        node, asking = self._topology.find(call) or await self.discovered(call), False
        for _ in range(MOST_HOPS):
            try:
                async with self._gate(node):
                    reply = await self._send(node, call, sent, asking, incarnation)
            except (lib.RedisError, OSError) as error:
                redirect = await self.turn(node, error)
                if redirect is None:
                    raise translate(error, node.shown) from None
                node, asking = redirect
            else:
                return call.parse(reply)
        raise circles(node)

    def _gate(self, node: Node) -> asyncio.Semaphore:
        """Bounds the connections to a node."""
        return self._gates.get(node) or self._gates.setdefault(node, asyncio.Semaphore(wire.CONNECTIONS))

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

    async def discovered(self, call: Call[Any] | None) -> Node:
        """Discover who is to be asked; one task asks around, the others wait for it. Where nobody answered
        it, nobody is asked again for them."""
        before = self._discoveries
        async with self._discovering:
            node = self._topology.find(call)
            if node is not None:
                return node
            if self._nobody is not None and self._discoveries != before:
                raise translate(self._nobody, str(self.address)) from None
            node = await self._discover(call)
        for other in self._topology.nodes():
            if not self._topology.serves(other):
                await self._drop(other)
        return node

    async def _discover(self, call: Call[Any] | None) -> Node:
        self._nobody = None
        try:
            return await _drive(self._topology.discover(call))
        except (lib.RedisError, OSError) as error:
            if isinstance(error, lib.ConnectionError):
                self._nobody, self.nobody_at = error, time.monotonic()
            raise translate(error, str(self.address)) from None
        finally:
            self._discoveries += 1

    async def _send(
        self, node: Node, call: Call[Any], sent: list[bool], asking: bool, incarnation: str | None
    ) -> Any:
        """One exchange with one node; raises the client library's errors."""
        link: Link = node.idle.pop() if node.idle else await self.open(node)
        if incarnation is not None and link.incarnation != incarnation:
            # What a connection said when it was opened may be long past: a new one tells what is.
            await link.aclose()
            await self._drop(node)
            link = await self.open(node)
            if link.incarnation != incarnation:
                await self._give(node, link)
                raise ServerChanged(link.incarnation)
        try:
            sent.append(True)
            reply = await exchange(link, call, asking=asking)
        except lib.ResponseError:
            await self._give(node, link)
            sent.pop()  # an answer, though a bad one
            raise
        except BaseException:
            await link.aclose()  # nobody else may read the reply under way
            raise
        await self._give(node, link)
        return reply

    async def tell(self, node: Node, call: Call[R]) -> R:
        """Ask a certain node, once. Raises RedisErrors."""
        try:
            return call.parse(await self._send(node, call, [], False, None))
        except (lib.RedisError, OSError) as error:
            await self.turn(node, error)
            raise translate(error, node.shown) from None

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

    async def open(self, node: Node) -> Link:
        """A new connection to a server that is new enough; raises the client library's errors."""
        link = serve(await connect(node.address))
        try:
            found = server.read(await link.ask(*wire.INFO))
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
        return await _exchange_both(link, call, call.confirm, asking)
    try:
        if asking:
            await link.ask("ASKING")
        return await link.ask(*wire.by_sha(call), timeout=timeout)
    except lib.NoScriptError:
        if asking:
            await link.ask("ASKING")
        return await link.ask(*wire.by_text(call), timeout=timeout)


async def _exchange_both(
    link: Link, call: Call[Any], confirm: tuple[Any, ...], asking: bool
) -> tuple[Any, Any]:
    """A call and the command that confirms it, one after the other on one connection."""
    before = [("ASKING",)] if asking else []
    try:
        return wire.both(await link.ask_all([*before, wire.by_sha(call), confirm]))
    except lib.NoScriptError:
        return wire.both(await link.ask_all([*before, wire.by_text(call), confirm]))


async def _drive(discovery: Discovery) -> Node:
    """Ask what a discovery wants to know, each on a connection of its own."""
    try:
        question = next(discovery)
        while True:
            try:
                reply = await _answer(*question)
            except (RedisError, lib.RedisError, OSError) as error:
                question = discovery.throw(error)
            else:
                question = discovery.send(reply)
    except StopIteration as end:
        node: Node = end.value
        return node


async def _answer(address: Address, command: tuple[Any, ...]) -> Any:
    link = serve(await connect(address, **wire.HURRIED))
    try:
        return await link.ask(*command, timeout=wire.HURRIED["socket_timeout"])
    finally:
        await link.aclose()
