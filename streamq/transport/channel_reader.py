"""What a subscribed connection says, as it comes: all that has come at once.

Owns the reading of it. Where hiredis is installed the socket is served by code of our own, as in `link`;
where it is not, the client library goes on serving it, one message at a time. Raises the client library's
errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from redis import exceptions as lib

from streamq.transport import wire
from streamq.transport.link import error, reset_told
from streamq.transport.wire import hiredis

_MORE: Final = object()
_ENDED: Final = "the server closed the connection"


class Ear(Protocol):
    """What both kinds can do. After an error it must be closed."""

    async def hear(self, timeout: float) -> list[Any]:
        """Return what the server has said, raw, or nothing where it is silent for so many seconds."""
        ...

    async def say(self, *command: Any) -> None:
        """Send a command; what it is answered with is heard."""
        ...

    async def aclose(self) -> None:
        """Close, without waiting."""
        ...


def listen(connection: Any, spawn: Callable[[Any], asyncio.Task[Any]]) -> Ear:
    """Listen to a connected connection of the client library. spawn: makes a task that is kept."""
    writer = getattr(connection, "_writer", None)
    if not hiredis or not isinstance(writer, asyncio.StreamWriter):
        return LibraryEar(connection, spawn)
    ear = FastEar(connection, writer.transport)
    writer.transport.set_protocol(ear)
    return ear


class FastEar(asyncio.Protocol):
    """hiredis on the socket."""

    def __init__(self, connection: Any, transport: Any) -> None:
        self._connection = connection  # owns the socket
        self._transport = transport
        self._replies = hiredis.Reader(notEnoughData=_MORE, replyError=error)
        self._said: list[Any] = []
        self._fault: Exception | None = None
        self._come = asyncio.Event()

    async def hear(self, timeout: float) -> list[Any]:
        if not self._come.is_set():
            waiting = asyncio.ensure_future(self._come.wait())
            await asyncio.wait((waiting,), timeout=timeout)
            waiting.cancel()
        if not self._said and self._fault is not None:
            raise self._fault
        said, self._said = self._said, []
        if self._fault is None:
            self._come.clear()
        return said

    async def say(self, *command: Any) -> None:
        if self._fault is not None:
            raise self._fault
        self._transport.write(wire.packed(command))

    def data_received(self, data: bytes) -> None:
        try:
            self._replies.feed(data)
            while (raw := self._replies.gets()) is not _MORE:
                self._said.append(raw)
        except hiredis.ProtocolError as fault:
            self._fault = lib.ConnectionError(f"the server's messages make no sense: {fault!r}")
            self._transport.abort()
        self._come.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fault = self._fault or lib.ConnectionError(str(exc) if exc else _ENDED)
        self._come.set()

    async def aclose(self) -> None:
        self._transport.abort()
        await self._connection.disconnect(nowait=True)


class LibraryEar:
    """The client library's own way. The read goes on in a task of its own: it is never cancelled half way."""

    def __init__(self, connection: Any, spawn: Callable[[Any], asyncio.Task[Any]]) -> None:
        self._connection = connection
        self._spawn = spawn
        self._reading: asyncio.Task[Any] | None = None

    async def hear(self, timeout: float) -> list[Any]:
        if self._reading is None:
            self._reading = self._spawn(self._connection.read_response(timeout=86400.0))
        done, _ = await asyncio.wait((self._reading,), timeout=timeout)
        if not done:
            return []
        task, self._reading = self._reading, None
        return [task.result()]

    async def say(self, *command: Any) -> None:
        with reset_told():
            await self._connection.send_command(*command)

    async def aclose(self) -> None:
        reading, self._reading = self._reading, None
        await self._connection.disconnect(nowait=True)
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
