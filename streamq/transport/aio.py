"""Runs Calls from an event loop; the twin of `sync`, and the blocking reader of workers.

Owns the connections of one event loop. A read is never cancelled half way: a cancelled caller leaves
its exchange to finish by itself, since a reply that nobody reads is a task that nobody has.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from redis import asyncio as aioredis
from redis import exceptions as lib
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from streamq import calls
from streamq.calls import Call
from streamq.errors import RedisUnavailable
from streamq.transport import server, wire
from streamq.transport.address import Address
from streamq.transport.faults import final, translate
from streamq.transport.link import Link, serve
from streamq.transport.patience import policy

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
    await connection.connect()
    return connection


class AsyncTransport:
    """Runs calls on one server, in one event loop. `patience`: seconds to try while it is away."""

    def __init__(self, address: Address, *, patience: float = 5.0) -> None:
        self._address = address
        self._patience = patience
        self._idle: list[Link] = []
        self._resolved: Address | None = None
        self._under_way: set[asyncio.Task[Any]] = set()
        self.info: server.ServerInfo | None = None

    @property
    def address(self) -> Address:
        """Where to connect to. The first look may start an embedded server."""
        if self._resolved is None:
            self._resolved = self._address.resolve()
        return self._resolved

    async def run(self, call: Call[R], *, patience: float | None = None) -> R:
        """Ask the server, as SyncTransport.run does."""
        sent: list[bool] = []
        try:
            return await self._attempt(call, sent)
        except RedisUnavailable as error:
            return await self._persist(call, sent, error, self._patience if patience is None else patience)

    async def _persist(self, call: Call[R], sent: list[bool], first: RedisUnavailable, patience: float) -> R:
        if patience <= 0:
            raise final(first, sent) from None
        from tenacity import AsyncRetrying  # noqa: PLC0415 - as in `patience`

        again = AsyncRetrying(**policy(patience))
        try:
            return await again(self._attempt, call, sent)
        except RedisUnavailable as error:
            raise final(error, sent) from None

    async def _attempt(self, call: Call[R], sent: list[bool]) -> R:
        try:
            link = self._idle.pop() if self._idle else await self.open()
        except (lib.RedisError, OSError) as error:
            raise translate(error, str(self._address)) from None
        try:
            sent.append(True)
            reply = await exchange(link, call)
        except lib.ResponseError as error:
            await self._give(link)
            sent.pop()  # an answer, though a bad one
            raise translate(error, str(self._address)) from None
        except (lib.RedisError, OSError) as error:
            await link.aclose()
            raise translate(error, str(self._address)) from None
        except BaseException:
            await link.aclose()  # nobody else may read the reply under way
            raise
        await self._give(link)
        return call.parse(reply)

    async def reconnect(self, *, patience: float = math.inf) -> bool:
        """Wait until the server answers again; False where the patience is used up before."""
        try:
            await self.run(calls.now(), patience=patience)
        except RedisUnavailable:
            return False
        return True

    async def _give(self, link: Link) -> None:
        if len(self._idle) < wire.IDLE_CONNECTIONS:
            self._idle.append(link)
        else:
            await link.aclose()

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        """A task that is kept alive until it is done."""
        task: asyncio.Task[Any] = asyncio.ensure_future(coroutine)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def open(self) -> Link:
        """A new connection to a server that is new enough; raises the client library's errors."""
        link = serve(await self.connect())
        try:
            self.info = server.read(await link.ask(*wire.INFO))
            server.check(self.info, str(self._address))
        except lib.ResponseError:  # a user without INFO: the version stays unknown
            return link
        except BaseException:
            await link.aclose()
            raise
        return link

    async def connect(self, **more: Any) -> Any:
        """A new connection of the client library's own kind."""
        return await connect(self.address, **more)

    async def aclose(self) -> None:
        idle, self._idle = self._idle, []
        for link in idle:
            await link.aclose()


async def exchange(link: Link, call: Call[Any], timeout: float = wire.COMMAND_TIMEOUT) -> Any:
    """One call on a connection; the script's text where the server does not know it."""
    if call.confirm is not None:
        return await exchange_both(link, call, call.confirm)
    try:
        return await link.ask(*wire.by_sha(call), timeout=timeout)
    except lib.NoScriptError:
        return await link.ask(*wire.by_text(call), timeout=timeout)


async def exchange_both(link: Link, call: Call[Any], confirm: tuple[Any, ...]) -> Any:
    """A call and the command that confirms it, one after the other on one connection."""
    try:
        return wire.both(await link.ask_all([wire.by_sha(call), confirm]))
    except lib.NoScriptError:
        return wire.both(await link.ask_all([wire.by_text(call), confirm]))


class AsyncReader:
    """A connection of its own for reads that block. One reader, one task; stopped by `unblock`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._link: Link | None = None
        self._client_id: int | None = None

    async def run(self, call: Call[R], *, longest: float = 0.0) -> R:
        """Run one call that may block for `longest` seconds; no resending: a read is not repeated.

        The wait is bounded by our own clock too: the server's BLOCK follows its wall clock.
        """
        async with self._opened() as link:
            return call.parse(await exchange(link, call, longest + wire.COMMAND_TIMEOUT))

    async def run_all(self, asked: list[Call[Any]]) -> list[Any]:
        """Run calls in one round trip. Answers for each its result, or the RedisError it ended with: what
        one of them brought is not lost because another failed."""
        async with self._opened() as link:
            replies = await link.ask_all([wire.by_sha(call) for call in asked])
            return [await self._result(link, *pair) for pair in zip(asked, replies, strict=True)]

    async def _result(self, link: Link, call: Call[Any], reply: Any) -> Any:
        if isinstance(reply, lib.NoScriptError):
            reply = await link.ask(*wire.by_text(call))
        if isinstance(reply, lib.ResponseError):
            return translate(reply, str(self._transport.address))
        if isinstance(reply, BaseException):
            raise reply
        return call.parse(reply)

    @asynccontextmanager
    async def _opened(self) -> AsyncGenerator[Link]:
        """Our connection, opened where there is none; closed after an error that is not an answer."""
        try:
            if self._link is None:
                self._link = await self._transport.open()
                self._client_id = await self._link.ask("CLIENT", "ID")
            yield self._link
        except lib.ResponseError as error:
            raise translate(error, str(self._transport.address)) from None
        except (lib.RedisError, OSError) as error:
            await self.aclose()
            raise translate(error, str(self._transport.address)) from None
        except BaseException:
            await self.aclose()
            raise

    async def unblock(self) -> bool:
        """End a blocking read at once and in order: it answers that nothing came. False where the
        server has no blocked read of ours."""
        if self._client_id is None:
            return False
        command = ("CLIENT", "UNBLOCK", self._client_id, "TIMEOUT")
        return await self._transport.run(Call(None, (), command, bool), patience=0)

    async def aclose(self) -> None:
        link, self._link, self._client_id = self._link, None, None
        if link is not None:
            await link.aclose()
