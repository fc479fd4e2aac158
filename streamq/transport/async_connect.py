"""Opens async connections: with the client library, within the time of one call, and logged in.

Owns the login from an event loop. Raises the library's errors. Must not know which server is meant: see
`async_transport`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from redis import asyncio as aioredis
from redis import exceptions as lib
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from streamq.errors import RedisError
from streamq.stepper import Stepper
from streamq.transport import login, wire
from streamq.transport.address import Address
from streamq.transport.budget import Budget
from streamq.transport.link import LibraryConnection, reset_as_connection_error, serve
from streamq.transport.topology import Discovery, Node
from streamq.transport.wire import Command


class _Bare:
    """Replaces the library's own login: attach its parser to the streams, and nothing else."""

    _parser: Any
    _reader: asyncio.StreamReader | None
    _writer: asyncio.StreamWriter | None

    @property
    def streams(self) -> tuple[asyncio.StreamReader | None, asyncio.StreamWriter | None]:
        return self._reader, self._writer

    def drop_streams(self) -> None:
        self._reader = self._writer = None

    async def on_connect(self) -> None:
        self._parser.on_connect(self)

    async def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: ARG002 - the library's signature
        self._parser.on_connect(self)


class _Tls(aioredis.SSLConnection):
    """Shares its TLS context with other connections."""

    address: Address

    def _connection_arguments(self) -> Mapping[str, object]:
        from streamq.transport import tls  # noqa: PLC0415 - most servers are without

        self.ssl_context.context = tls.context(self.address)
        arguments: Mapping[str, object] = super()._connection_arguments()
        return arguments


_CLASSES: Final[dict[str, Any]] = {
    "tcp": type("TcpConnection", (_Bare, aioredis.Connection), {}),
    "tls": type("TlsConnection", (_Bare, _Tls), {}),
    "unix": type("UnixConnection", (_Bare, aioredis.UnixDomainSocketConnection), {}),
}


async def connect(address: Address, *, budget: Budget, **more: object) -> LibraryConnection:
    """Return a connection of the client library that is logged in. Raises its errors."""
    kwargs: dict[str, Any] = {**login.settings(address), **more}
    most = kwargs["socket_timeout"] or login.reply_timeout(address)
    connection = _CLASSES[address.kind](retry=Retry(NoBackoff(), 0), **kwargs)
    connection.address = address
    opened: LibraryConnection = connection
    try:
        async with asyncio.timeout(budget.left()):
            with reset_as_connection_error():
                await connection.connect()
                await _log_in(opened, address, most)
    except TimeoutError:
        await opened.disconnect(nowait=True)
        raise lib.TimeoutError(login.SILENT) from None
    except BaseException:
        await opened.disconnect(nowait=True)
        raise
    return opened


async def _log_in(connection: LibraryConnection, address: Address, most: float) -> None:
    commands = login.commands(address)
    reader, writer = connection.streams
    try:
        async with asyncio.timeout(most):
            writer.write(wire.pack_commands(commands))
            for command in commands:
                login.check_reply(command, await reader.readline())  # each reply is one line
    except ConnectionError:
        raise lib.ConnectionError(login.CLOSED_AT_ONCE) from None
    except ValueError:
        raise lib.InvalidResponse(login.NO_REDIS) from None


async def run_discovery(discovery: Discovery, budget: Budget) -> Node:
    """Run a discovery, each of its questions on a connection of its own; return the node it finds."""
    steps = Stepper(discovery)
    while steps.step is not None:
        try:
            reply = await _ask(*steps.step, budget)
        except (RedisError, lib.RedisError, OSError) as error:
            steps.throw(error)
        else:
            steps.send(reply)
    return steps.result


async def _ask(address: Address, command: Command, budget: Budget) -> object:
    link = serve(await connect(address, budget=budget, **login.SHORT_TIMEOUTS))
    try:
        return await link.ask(*command, timeout=budget.left(login.SHORT_TIMEOUTS["socket_timeout"]))
    finally:
        await link.aclose()
