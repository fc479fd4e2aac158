"""One connection, for calls that are answered in their order.

The client library connects and logs in. Where hiredis is installed its socket is then served by code of
our own, which costs a fifth of the library's streams and timeouts; where it is not, the library goes on
serving it. Owns that choice, the packing of commands and the time an answer may take.
Raises the client library's errors.
"""

from __future__ import annotations

import asyncio
import math
import select
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from operator import itemgetter
from typing import Any, Final, Protocol

from redis import exceptions as lib

from streamq.transport import wire
from streamq.transport.wire import hiredis

_MORE: Final = object()
_ERRORS: Final = {"NOSCRIPT": lib.NoScriptError, "NOPERM": lib.NoPermissionError}
_CLOSED: Final = "the server closed the connection"
JUST: Final = 0.0002
"""Seconds after a call in which it is not asked again whether its connection has been closed meanwhile."""
_TICK: Final = 0.002
"""Seconds by which a timer may ring early: loops round."""


class Unsent(lib.ConnectionError):
    """The connection was of no use any more: the command did not go out, so it was not carried out."""


def _coming(socket: Any) -> Callable[[int], Sequence[Any]]:
    """A function that answers what has come on a socket: on an idle connection, its end or a stray answer.
    Asks the system and not the event loop, which may have been kept from looking."""
    descriptor = -1 if socket is None else socket.fileno()
    if not hasattr(select, "poll") or descriptor < 0:
        return lambda _wait: ()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return poll.poll


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

    incarnation: of the server it leads to; '' where that is unknown. used: when its last call began
    (monotonic).
    """

    incarnation: str
    used: float

    async def ask(self, *command: Any, timeout: float = wire.COMMAND_TIMEOUT) -> Any:
        """Send one command; the raw reply. Raises where the reply is an error, or late."""
        ...

    async def ask_all(
        self, commands: list[tuple[Any, ...]], timeout: float = wire.COMMAND_TIMEOUT
    ) -> list[Any]:
        """Send commands at once; each reply or the error it was, in their order."""
        ...

    def usable(self) -> bool:
        """Whether it is still open, as far as can be known without asking the server."""
        ...

    async def aclose(self) -> None:
        """Close, without waiting."""
        ...

    def abandon(self) -> None:
        """Close without the event loop, which is closed."""
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


class _Several:
    """Takes the answers to several commands, or the errors, and has them awaited as one: a future for each
    would cost more than the answers."""

    __slots__ = ("_answers", "_number", "ended")

    def __init__(self, number: int, ended: asyncio.Future[list[Any]]) -> None:
        self._number = number
        self._answers: list[Any] = []
        self.ended = ended

    def done(self) -> bool:
        return self.ended.done()

    def set_result(self, answer: Any) -> None:
        self._answers.append(answer)
        if len(self._answers) == self._number:
            self.ended.set_result(self._answers)

    set_exception = set_result


class FastLink(asyncio.Protocol):
    """hiredis on the socket: an answer goes from the event loop straight to who waits for it."""

    incarnation = ""
    used: float = 0.0

    def __init__(self, connection: Any, transport: Any) -> None:
        self._connection = connection  # owns the socket
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._replies = hiredis.Reader(notEnoughData=_MORE, replyError=error)
        self._asked: deque[tuple[asyncio.Future[Any] | _Several, float, float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._armed = math.inf
        self._closed = False
        self._coming = _coming(transport.get_extra_info("socket"))

    async def ask(self, *command: Any, timeout: float = wire.COMMAND_TIMEOUT) -> Any:
        self._write(wire.packed(command))
        return await self._awaited(self._loop.time() + timeout, timeout)

    async def ask_all(
        self, commands: list[tuple[Any, ...]], timeout: float = wire.COMMAND_TIMEOUT
    ) -> list[Any]:
        self._write(wire.pack(commands))
        due, several = self._loop.time() + timeout, _Several(len(commands), self._loop.create_future())
        self._asked.extend([(several, due, timeout)] * len(commands))
        if due < self._armed:
            self._arm(due)
        answers: list[Any] = await several.ended
        return answers

    def _write(self, data: bytes) -> None:
        """Write commands in one piece. Raises Unsent where the connection is known to be closed."""
        if self._closed or self._transport.is_closing():
            raise Unsent(_CLOSED)
        self._transport.write(data)
        if self._transport.is_closing():  # it was written to at once, in vain
            raise Unsent(_CLOSED)

    def _awaited(self, due: float, timeout: float) -> asyncio.Future[Any]:
        """The answer to a command that was written. One timer looks after all of them: one for each, set and
        unset again, would cost more than the rest of a call here."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._asked.append((answer, due, timeout))
        if due < self._armed:
            self._arm(due)
        return answer

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed, self._timer = due, self._loop.call_at(due, self._look)

    def _look(self) -> None:
        """End the connection where an answer is overdue, or look again when the next is."""
        self._armed, self._timer = math.inf, None
        if self._asked:
            _, due, timeout = min(self._asked, key=itemgetter(1))
            if due <= self._loop.time() + _TICK:
                self._expire(timeout)
            else:
                self._arm(due)

    def usable(self) -> bool:
        return not self._closed and not self._transport.is_closing() and not self._coming(0)

    def data_received(self, data: bytes) -> None:
        try:
            self._replies.feed(data)
            while (reply := self._replies.gets()) is not _MORE:
                self._answer(self._asked.popleft()[0], reply)
        except (hiredis.ProtocolError, IndexError) as error:
            self._fail(lib.ConnectionError(f"the server's replies make no sense: {error!r}"))

    @staticmethod
    def _answer(answer: asyncio.Future[Any] | _Several, reply: Any) -> None:
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
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._asked:
            answer, _, _ = self._asked.popleft()
            if not answer.done():
                answer.set_exception(why)

    async def aclose(self) -> None:
        self._fail(lib.ConnectionError("closed"))
        await self._connection.disconnect(nowait=True)

    def abandon(self) -> None:
        _abandon(self._connection, self._transport)


class LibraryLink:
    """The client library's own way, for installations without hiredis."""

    incarnation = ""
    used: float = 0.0

    def __init__(self, connection: Any) -> None:
        self._connection: Any = connection
        connection.socket_timeout = None  # it answers None where a read of its own takes too long
        writer: Any = connection._writer  # noqa: SLF001 - it has no public name
        self._coming = _coming(writer.transport.get_extra_info("socket"))

    async def ask(self, *command: Any, timeout: float = wire.COMMAND_TIMEOUT) -> Any:
        [reply] = await self._exchange([command], timeout)
        if isinstance(reply, lib.ResponseError):
            raise reply
        return reply

    async def ask_all(
        self, commands: list[tuple[Any, ...]], timeout: float = wire.COMMAND_TIMEOUT
    ) -> list[Any]:
        return await self._exchange(commands, timeout)

    def usable(self) -> bool:
        reader: Any = self._connection._reader  # noqa: SLF001 - it has no public name
        return self._connection.is_connected and not reader.at_eof() and not self._coming(0)

    async def _exchange(self, commands: list[tuple[Any, ...]], timeout: float) -> list[Any]:
        if not self.usable():
            raise Unsent(_CLOSED)
        packed = [wire.pack(commands)]
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

    def abandon(self) -> None:
        writer: Any = self._connection._writer  # noqa: SLF001 - it has no public name
        _abandon(self._connection, writer.transport)


def _abandon(connection: Any, transport: Any) -> None:
    """The event loop's own transport would ask its loop to close the socket, and warn as it is collected."""
    with suppress(RuntimeError):
        transport.abort()
    if (sock := getattr(transport, "_sock", None)) is not None:
        sock.close()
        transport._sock = None  # noqa: SLF001 - it has no public name
    connection._reader = connection._writer = None  # noqa: SLF001


class SyncLink:
    """A connection of plain code: one call at a time. `stale(0)`: what shows that it is of no use any more,
    as far as can be known without asking the server. `used`: when its last call began (monotonic)."""

    __slots__ = ("_replies", "_seconds", "_socket", "connection", "stale", "used")

    def __init__(self, connection: Any) -> None:
        self.connection: Any = connection  # owns the socket
        self._replies = hiredis.Reader(notEnoughData=_MORE, replyError=error) if hiredis else None
        self._socket = connection._sock  # noqa: SLF001 - it has no public name
        self._seconds: float | None = self._socket.gettimeout()
        self.used: float = 0.0
        self.stale: Callable[[int], Sequence[Any]] = _coming(self._socket)
        if hasattr(self._socket, "pending"):  # TLS may have read on
            coming, pending = self.stale, self._socket.pending
            self.stale = lambda wait: coming(wait) or (pending() and (True,)) or ()

    def usable(self) -> bool:
        """Whether it is not `stale`."""
        return not self.stale(0)

    def ask(self, *command: Any, timeout: float = wire.COMMAND_TIMEOUT) -> Any:
        """Send one command; the raw reply. Raises where the reply is an error, or late."""
        if timeout != self._seconds:
            self.limit(timeout)
        data = wire.packed(command)
        try:
            sent = self._socket.send(data)
        except OSError as error:
            raise Unsent(str(error) or _CLOSED) from None
        if sent < len(data):
            self._socket.sendall(memoryview(data)[sent:])
        reply = self._answers(1, timeout)[0] if self._replies is None else self._answer(timeout)
        if isinstance(reply, lib.ResponseError):
            raise reply
        return reply

    def ask_all(self, commands: list[tuple[Any, ...]], timeout: float = wire.COMMAND_TIMEOUT) -> list[Any]:
        """Send commands at once; each reply or the error it was, in their order. Raises where one is late."""
        self.limit(timeout)
        self._send(wire.pack(commands))
        return self._answers(len(commands), timeout)

    def _answer(self, timeout: float) -> Any:
        """What nearly every call is: one answer, in one piece."""
        replies: Any = self._replies
        try:
            data: bytes = self._socket.recv(65536)
            replies.feed(data)
            reply = replies.gets()
        except TimeoutError:
            raise lib.TimeoutError(f"no answer within {timeout:g} s") from None
        except wire.ProtocolError as error:
            raise lib.ConnectionError(f"the server's replies make no sense: {error!r}") from None
        if reply is not _MORE:
            return reply
        if not data:
            raise lib.ConnectionError(_CLOSED)
        return self._answers(1, timeout)[0]

    def _answers(self, number: int, timeout: float) -> list[Any]:
        end = time.monotonic() + timeout
        try:
            return [self._read(end) if self._replies else self._read_library() for _ in range(number)]
        except TimeoutError:
            raise lib.TimeoutError(f"no answer within {timeout:g} s") from None
        except wire.ProtocolError as error:
            raise lib.ConnectionError(f"the server's replies make no sense: {error!r}") from None

    def limit(self, seconds: float) -> None:
        """What a wait on the socket may take."""
        self._socket.settimeout(seconds)
        self._seconds = seconds

    def _send(self, data: bytes) -> None:
        """Raises Unsent where nothing went out."""
        try:
            sent = self._socket.send(data)
        except OSError as error:
            raise Unsent(str(error) or _CLOSED) from None
        if sent < len(data):
            self._socket.sendall(memoryview(data)[sent:])

    def _read(self, end: float) -> Any:
        replies: Any = self._replies
        while (reply := replies.gets()) is _MORE:
            if time.monotonic() > end:
                raise TimeoutError
            data: bytes = self._socket.recv(65536)
            if not data:
                raise lib.ConnectionError(_CLOSED)
            replies.feed(data)
        return reply

    def _read_library(self) -> Any:
        try:
            return self.connection.read_response()
        except lib.ResponseError as error:
            return error

    def close(self) -> None:
        """Close the connection."""
        self.connection.disconnect()
