"""An async connection for calls, whose replies come in the order of the commands.

The client library opens the connection. If hiredis is installed, the socket is then served by `FastLink`,
which costs a fifth of the library's streams and timeouts; otherwise the library goes on serving it. Owns that
choice and the time that a reply may take. Raises the client library's errors. Must not send a command again.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections import deque
from collections.abc import Coroutine, Generator
from contextlib import contextmanager, suppress
from operator import itemgetter
from typing import Final, Protocol

from redis import exceptions as lib

from streamq.transport import wire
from streamq.transport.wire import CLOSED, INCOMPLETE, Command, NotSent, hiredis

_TICK: Final = 0.002
"""Seconds by which a timer may fire early: event loops round."""


class LibraryConnection(Protocol):
    """What is used of a connection of the client library (see `async_connect`)."""

    socket_timeout: float | None

    @property
    def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]: ...
    @property
    def is_connected(self) -> bool: ...
    def drop_streams(self) -> None: ...
    async def disconnect(self, nowait: bool = False) -> None: ...
    def read_response(self, *, timeout: float | None = None) -> Coroutine[object, object, object]: ...
    async def send_packed_command(self, command: list[bytes]) -> None: ...
    async def send_command(self, *args: object) -> None: ...


@contextmanager
def reset_as_connection_error() -> Generator[None]:
    """Turn uvloop's RuntimeError, raised for a write to a socket that was just reset, into a
    ConnectionError."""
    try:
        yield
    except RuntimeError as error:
        raise lib.ConnectionError(str(error)) from None


class Link(Protocol):
    """What both kinds of connection can do. After any error other than an error reply it must be closed.

    incarnation: of the server at the other end; '' if it is unknown. used: when the last call began
    (monotonic).
    """

    incarnation: str
    used: float

    async def ask(self, *command: object, timeout: float = wire.COMMAND_TIMEOUT) -> object:
        """Send one command and return the raw reply. Raises an error reply, and TimeoutError."""
        ...

    async def ask_all(self, commands: list[Command], timeout: float = wire.COMMAND_TIMEOUT) -> list[object]:
        """Send commands in one write and return their replies in order, error replies among them."""
        ...

    def usable(self) -> bool:
        """Return whether the connection is open, as far as is known without asking the server."""
        ...

    async def aclose(self) -> None:
        """Close, without waiting."""
        ...

    def abandon(self) -> None:
        """Close after the event loop was closed."""
        ...


def serve(connection: LibraryConnection) -> Link:
    """Return a link on a connected connection of the client library."""
    writer = connection.streams[1]
    if not hiredis or not isinstance(writer, asyncio.StreamWriter):
        return LibraryLink(connection)
    fast = FastLink(connection, writer.transport)
    writer.transport.set_protocol(fast)
    return fast


class _BatchReply:
    """Collects the replies to several commands, error replies among them, for one future: a future for each
    would cost more than the replies."""

    __slots__ = ("_number", "_replies", "complete")

    def __init__(self, number: int, complete: asyncio.Future[list[object]]) -> None:
        self._number = number
        self._replies: list[object] = []
        self.complete = complete

    def done(self) -> bool:
        return self.complete.done()

    def set_result(self, reply: object) -> None:
        self._replies.append(reply)
        if len(self._replies) == self._number:
            self.complete.set_result(self._replies)

    set_exception = set_result


class FastLink(asyncio.Protocol):
    """hiredis on the socket: a reply goes from the event loop directly to the task that waits for it."""

    incarnation = ""
    used: float = 0.0

    def __init__(self, connection: LibraryConnection, transport: asyncio.WriteTransport) -> None:
        self._connection = connection  # owns the socket
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._parser = wire.reply_reader()
        self._pending: deque[tuple[asyncio.Future[object] | _BatchReply, float, float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf
        self._closed = False
        self._unread_input = wire.unread_input(_socket_of(transport))

    async def ask(self, *command: object, timeout: float = wire.COMMAND_TIMEOUT) -> object:
        self._write(wire.pack_command(command))
        return await self._reply(self._loop.time() + timeout, timeout)

    async def ask_all(self, commands: list[Command], timeout: float = wire.COMMAND_TIMEOUT) -> list[object]:
        self._write(wire.pack_commands(commands))
        due, batch = self._loop.time() + timeout, _BatchReply(len(commands), self._loop.create_future())
        self._pending.extend([(batch, due, timeout)] * len(commands))
        if due < self._timer_due:
            self._start_timer(due)
        return await batch.complete

    def _write(self, data: bytes) -> None:
        """Write commands in one piece. Raises NotSent if the connection is known to be closed."""
        if self._closed or self._transport.is_closing():
            raise NotSent(CLOSED)
        self._transport.write(data)
        if self._transport.is_closing():  # it wrote at once, and failed
            raise NotSent(CLOSED)

    def _reply(self, due: float, timeout: float) -> asyncio.Future[object]:
        """Return a future for the reply to a command that was written. One timer watches all of them: a timer
        for each, started and stopped again, would cost more than the rest of a call here."""
        reply: asyncio.Future[object] = self._loop.create_future()
        self._pending.append((reply, due, timeout))
        if due < self._timer_due:
            self._start_timer(due)
        return reply

    def _start_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due, self._timer = due, self._loop.call_at(due, self._check_overdue)

    def _check_overdue(self) -> None:
        """Fail if a reply is overdue; otherwise start the timer for the next one."""
        self._timer_due, self._timer = math.inf, None
        if self._pending:
            _, due, timeout = min(self._pending, key=itemgetter(1))
            if due <= self._loop.time() + _TICK:
                self._fail(lib.TimeoutError(f"no answer within {timeout:g} s"))
            else:
                self._start_timer(due)

    def usable(self) -> bool:
        return not self._closed and not self._transport.is_closing() and not self._unread_input(0)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
            while (reply := self._parser.gets()) is not INCOMPLETE:
                self._resolve(self._pending.popleft()[0], reply)
        except (wire.ProtocolError, IndexError) as error:
            self._fail(lib.ConnectionError(f"the server sent an unreadable reply: {error!r}"))

    @staticmethod
    def _resolve(waiting: asyncio.Future[object] | _BatchReply, reply: object) -> None:
        if waiting.done():
            return
        if isinstance(reply, lib.ResponseError):
            waiting.set_exception(reply)
        else:
            waiting.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(lib.ConnectionError(str(exc) if exc else CLOSED))

    def _fail(self, error: Exception) -> None:
        self._closed = True
        self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._pending:
            waiting, _, _ = self._pending.popleft()
            if not waiting.done():
                waiting.set_exception(error)

    async def aclose(self) -> None:
        self._fail(lib.ConnectionError("closed"))
        await self._connection.disconnect(nowait=True)

    def abandon(self) -> None:
        close_without_loop(self._connection, self._transport)


class LibraryLink:
    """The client library's own streams, for installations without hiredis."""

    incarnation = ""
    used: float = 0.0

    def __init__(self, connection: LibraryConnection) -> None:
        self._connection = connection
        connection.socket_timeout = None  # with one of its own, a slow read returns None
        self._unread_input = wire.unread_input(_socket_of(connection.streams[1].transport))

    async def ask(self, *command: object, timeout: float = wire.COMMAND_TIMEOUT) -> object:
        [reply] = await self.ask_all([command], timeout)
        if isinstance(reply, lib.ResponseError):
            raise reply
        return reply

    async def ask_all(self, commands: list[Command], timeout: float = wire.COMMAND_TIMEOUT) -> list[object]:
        if not self.usable():
            raise NotSent(CLOSED)
        packed = [wire.pack_commands(commands)]
        try:
            async with asyncio.timeout(timeout):
                with reset_as_connection_error():
                    await self._connection.send_packed_command(packed)
                return [await self._next() for _ in commands]
        except TimeoutError:
            raise lib.TimeoutError(f"no answer within {timeout:g} s") from None

    def usable(self) -> bool:
        connection = self._connection
        return connection.is_connected and not connection.streams[0].at_eof() and not self._unread_input(0)

    async def _next(self) -> object:
        try:
            return await self._connection.read_response()
        except lib.ResponseError as error:
            return error

    async def aclose(self) -> None:
        await self._connection.disconnect(nowait=True)

    def abandon(self) -> None:
        close_without_loop(self._connection, self._connection.streams[1].transport)


def _socket_of(transport: asyncio.BaseTransport) -> socket.socket | None:
    found: socket.socket | None = transport.get_extra_info("socket")
    return found


def close_without_loop(connection: LibraryConnection, transport: asyncio.WriteTransport) -> None:
    """Close the socket itself: the event loop's transport would ask its closed loop to, and warn when it is
    collected."""
    with suppress(RuntimeError):
        transport.abort()
    sock: socket.socket | None = getattr(transport, "_sock", None)
    if sock is not None:
        sock.close()
        transport._sock = None  # type: ignore[attr-defined]  # noqa: SLF001 - it has no public name
    connection.drop_streams()
