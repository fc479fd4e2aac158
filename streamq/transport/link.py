"""One connection, for calls that are answered in their order.

The client library connects and logs in. Where hiredis is installed its socket is then served by code of
our own, which costs a fifth of the library's streams and timeouts; where it is not, the library goes on
serving it. Owns that choice, the packing of commands and the time an answer may take.
Raises the client library's errors.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, Protocol

from redis import exceptions as lib
from redis.asyncio import Connection

from streamq.transport import wire
from streamq.transport.wire import hiredis

_MORE: Final = object()
_ERRORS: Final = {"NOSCRIPT": lib.NoScriptError, "NOPERM": lib.NoPermissionError}
_CLOSED: Final = "the server closed the connection"


@contextmanager
def reset_told() -> Generator[None]:
    """uvloop tells of a write to a socket that was reset a moment before with a RuntimeError, which nobody
    would take for a fault of the network."""
    try:
        yield
    except RuntimeError as error:
        raise lib.ConnectionError(str(error)) from None


class Link(Protocol):
    """What both kinds of connection can do. After an error other than an answer it must be closed.

    incarnation: of the server it leads to; '' where that is unknown.
    """

    incarnation: str

    async def ask(self, *command: Any, timeout: float = wire.COMMAND_TIMEOUT) -> Any:
        """Send one command; the raw reply. Raises where the reply is an error, or late."""
        ...

    async def ask_all(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send commands at once; each reply or the error it was, in their order."""
        ...

    async def aclose(self) -> None:
        """Close, without waiting."""
        ...


def serve(connection: Any) -> Link:
    """Serve a connected connection of the client library."""
    writer = getattr(connection, "_writer", None)
    if not hiredis or not isinstance(writer, asyncio.StreamWriter):
        return LibraryLink(connection)
    fast = FastLink(connection, writer.transport)
    writer.transport.set_protocol(fast)
    return fast


def error(text: str) -> lib.ResponseError:
    """An error reply as the client library's error."""
    return _ERRORS.get(text.partition(" ")[0], lib.ResponseError)(text)


class FastLink(asyncio.Protocol):
    """hiredis on the socket: an answer goes from the event loop straight to who waits for it."""

    incarnation = ""

    def __init__(self, connection: Any, transport: Any) -> None:
        self._connection = connection  # owns the socket
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._replies = hiredis.Reader(notEnoughData=_MORE, replyError=error)
        self._asked: deque[asyncio.Future[Any]] = deque()
        self._closed = False

    async def ask(self, *command: Any, timeout: float = wire.COMMAND_TIMEOUT) -> Any:
        answer = self._send(command)
        timer = self._loop.call_later(timeout, self._expire, timeout)
        try:
            return await answer
        finally:
            timer.cancel()

    async def ask_all(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        timer = self._loop.call_later(wire.COMMAND_TIMEOUT, self._expire, wire.COMMAND_TIMEOUT)
        try:
            return await asyncio.gather(*map(self._send, commands), return_exceptions=True)
        finally:
            timer.cancel()

    def _send(self, command: tuple[Any, ...]) -> asyncio.Future[Any]:
        if self._closed or self._transport.is_closing():
            raise lib.ConnectionError(_CLOSED)
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._asked.append(answer)
        self._transport.write(hiredis.pack_command(command))
        return answer

    def data_received(self, data: bytes) -> None:
        try:
            self._replies.feed(data)
            while (reply := self._replies.gets()) is not _MORE:
                self._answer(self._asked.popleft(), reply)
        except (hiredis.ProtocolError, IndexError) as error:
            self._fail(lib.ConnectionError(f"the server's replies make no sense: {error!r}"))

    @staticmethod
    def _answer(answer: asyncio.Future[Any], reply: Any) -> None:
        if answer.done():
            return
        if isinstance(reply, lib.ResponseError):
            answer.set_exception(reply)
        else:
            answer.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(lib.ConnectionError(str(exc) if exc else _CLOSED))

    def _expire(self, seconds: float) -> None:
        self._fail(lib.TimeoutError(f"no answer within {seconds:g} s"))

    def _fail(self, why: Exception) -> None:
        self._closed = True
        self._transport.abort()
        while self._asked:
            answer = self._asked.popleft()
            if not answer.done():
                answer.set_exception(why)

    async def aclose(self) -> None:
        self._fail(lib.ConnectionError("closed"))
        await self._connection.disconnect(nowait=True)


class LibraryLink:
    """The client library's own way, for installations without hiredis."""

    incarnation = ""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        connection.socket_timeout = None  # it answers None where a read of its own takes too long

    async def ask(self, *command: Any, timeout: float = wire.COMMAND_TIMEOUT) -> Any:
        [reply] = await self._exchange([command], timeout)
        if isinstance(reply, lib.ResponseError):
            raise reply
        return reply

    async def ask_all(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        return await self._exchange(commands, wire.COMMAND_TIMEOUT)

    async def _exchange(self, commands: list[tuple[Any, ...]], timeout: float) -> list[Any]:
        packed = [part for command in commands for part in self._connection.pack_command(*command)]
        try:
            async with asyncio.timeout(timeout):
                with reset_told():
                    await self._connection.send_packed_command(packed)
                return [await self._next() for _ in commands]
        except TimeoutError:
            raise lib.TimeoutError(f"no answer within {timeout:g} s") from None

    async def _next(self) -> Any:
        try:
            return await self._connection.read_response()
        except lib.ResponseError as error:
            return error

    async def aclose(self) -> None:
        await self._connection.disconnect(nowait=True)


class SyncLink:
    """A connection of plain code: one call at a time, with the timeout that its socket was given."""

    __slots__ = ("_receive", "_replies", "_send", "connection")

    def __init__(self, connection: Any) -> None:
        self.connection = connection  # owns the socket
        self._replies = hiredis.Reader(notEnoughData=_MORE, replyError=error) if hiredis else None
        socket = connection._sock  # noqa: SLF001 - it has no public name
        self._send, self._receive = socket.sendall, socket.recv

    def ask(self, *command: Any) -> Any:
        """Send one command; the raw reply. Raises where the reply is an error, or late."""
        if self._replies is None:
            self.connection.send_command(*command)
            return self.connection.read_response()
        try:
            self._send(hiredis.pack_command(command))
            while (reply := self._replies.gets()) is _MORE:
                self._replies.feed(self._received())
        except TimeoutError:
            raise lib.TimeoutError("no answer in time") from None
        except hiredis.ProtocolError as error:
            raise lib.ConnectionError(f"the server's replies make no sense: {error!r}") from None
        if isinstance(reply, lib.ResponseError):
            raise reply
        return reply

    def ask_all(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send commands at once; each reply or the error it was, in their order. Raises where one is late."""
        if self._replies is None:
            self.connection.send_packed_command(
                [part for command in commands for part in self.connection.pack_command(*command)]
            )
            return [self._read_library() for _ in commands]
        try:
            self._send(b"".join(map(hiredis.pack_command, commands)))
            return [self._read() for _ in commands]
        except TimeoutError:
            raise lib.TimeoutError("no answer in time") from None
        except hiredis.ProtocolError as error:
            raise lib.ConnectionError(f"the server's replies make no sense: {error!r}") from None

    def _read(self) -> Any:
        replies: Any = self._replies
        while (reply := replies.gets()) is _MORE:
            replies.feed(self._received())
        return reply

    def _read_library(self) -> Any:
        try:
            return self.connection.read_response()
        except lib.ResponseError as error:
            return error

    def _received(self) -> bytes:
        data: bytes = self._receive(65536)
        if not data:
            raise lib.ConnectionError(_CLOSED)
        return data

    def close(self) -> None:
        """Close the connection."""
        self.connection.disconnect()
