"""Reads what the server pushes on a subscribed connection: all that has arrived, at once.

If hiredis is installed the socket is served by code of this module, as in `link`; otherwise the client
library serves it, one push at a time. Owns that choice. Raises the client library's errors. Must not
subscribe again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import NamedTuple, Protocol

from redis import exceptions as lib

from streamq.transport import wire
from streamq.transport.link import LibraryConnection, close_without_loop, reset_as_connection_error
from streamq.transport.wire import INCOMPLETE, hiredis

Spawn = Callable[[Coroutine[object, object, object]], asyncio.Task[object]]
"""Starts a task and keeps it alive."""


class Push(NamedTuple):
    """A message on a channel, or the confirmation of a command."""

    kind: bytes
    channel: str
    data: str

    @classmethod
    def of(cls, raw: object) -> Push:
        """Read one push. Raises an error reply."""
        if isinstance(raw, Exception):
            raise raw
        if not isinstance(raw, list) or not isinstance(raw[0], bytes):
            return cls(b"", "", "")
        words = raw[-2:] if raw[0] in (b"message", b"pmessage") else [*raw[1:], b"", b""][:2]
        channel, data = (one.decode("utf-8", "replace") if isinstance(one, bytes) else "" for one in words)
        return cls(raw[0], channel, data)


class ChannelReader(Protocol):
    """What both kinds can do. After an error it must be closed."""

    async def read(self, timeout: float) -> list[Push]:
        """Return what the server pushed; nothing if it is silent for so many seconds."""
        ...

    async def send(self, *command: object) -> None:
        """Send a command; its confirmation is read as a push."""
        ...

    async def aclose(self) -> None:
        """Close, without waiting."""
        ...

    def abandon(self) -> None:
        """Close after the event loop was closed."""
        ...


def channel_reader(connection: LibraryConnection, spawn: Spawn) -> ChannelReader:
    """Return a reader on a connected connection of the client library."""
    writer = connection.streams[1]
    if not hiredis or not isinstance(writer, asyncio.StreamWriter):
        return LibraryChannelReader(connection, spawn)
    reader = FastChannelReader(connection, writer.transport)
    writer.transport.set_protocol(reader)
    return reader


def _pushes(raw: Iterable[object]) -> list[Push]:
    return [Push.of(one) for one in raw]


class FastChannelReader(asyncio.Protocol):
    """hiredis on the socket."""

    def __init__(self, connection: LibraryConnection, transport: asyncio.WriteTransport) -> None:
        self._connection = connection  # owns the socket
        self._transport = transport
        self._parser = wire.reply_reader()
        self._unread: list[object] = []
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def read(self, timeout: float) -> list[Push]:
        if not self._unread and self._error is None:
            # A future, not a task: a loop that is closed now would complain of a task that it destroys.
            self._waiter = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._waiter,), timeout=timeout)
        if not self._unread and self._error is not None:
            raise self._error
        unread, self._unread = self._unread, []
        return _pushes(unread)

    async def send(self, *command: object) -> None:
        if self._error is not None:
            raise self._error
        self._transport.write(wire.pack_command(command))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
            while (raw := self._parser.gets()) is not INCOMPLETE:
                self._unread.append(raw)
        except wire.ProtocolError as error:
            self._error = lib.ConnectionError(f"the server sent an unreadable message: {error!r}")
            self._transport.abort()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._error = self._error or lib.ConnectionError(str(exc) if exc else wire.CLOSED)
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def aclose(self) -> None:
        self._transport.abort()
        await self._connection.disconnect(nowait=True)

    def abandon(self) -> None:
        close_without_loop(self._connection, self._transport)


class LibraryChannelReader:
    """The client library's own streams. The read runs in a task of its own: it is never cancelled half
    way."""

    def __init__(self, connection: LibraryConnection, spawn: Spawn) -> None:
        self._connection = connection
        self._spawn = spawn
        self._reading: asyncio.Task[object] | None = None

    async def read(self, timeout: float) -> list[Push]:
        if self._reading is None:
            self._reading = self._spawn(self._connection.read_response(timeout=86400.0))
        done, _ = await asyncio.wait((self._reading,), timeout=timeout)
        if not done:
            return []
        task, self._reading = self._reading, None
        return _pushes([task.result()])

    async def send(self, *command: object) -> None:
        with reset_as_connection_error():
            await self._connection.send_command(*command)

    async def aclose(self) -> None:
        reading, self._reading = self._reading, None
        await self._connection.disconnect(nowait=True)
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    def abandon(self) -> None:
        self._reading = None
        close_without_loop(self._connection, self._connection.streams[1].transport)
