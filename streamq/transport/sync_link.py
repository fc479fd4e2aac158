"""A sync connection for calls, whose replies come in the order of the commands.

The client library opens the connection. If hiredis is installed, this module reads the socket itself;
otherwise the library does. Owns the time that a reply may take. One call at a time. Raises the client
library's errors. Must not send a command again.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from redis import exceptions as lib

from streamq.transport import wire
from streamq.transport.wire import CLOSED, INCOMPLETE, Command, NotSent, ReplyReader, hiredis


class LibraryConnection(Protocol):
    """What is used of a connection of the client library (see `sync_connect`)."""

    @property
    def sock(self) -> socket.socket: ...
    def disconnect(self) -> None: ...
    def read_response(self) -> object: ...
    def send_command(self, *args: object) -> None: ...
    def can_read(self, timeout: float = 0) -> bool: ...


class SyncLink:
    """One connection. `stale(0)` is true if it is known to be of no more use, as far as that is known without
    asking the server. used: when the last call began (monotonic)."""

    __slots__ = ("_parser", "_seconds", "_socket", "connection", "stale", "used")

    def __init__(self, connection: LibraryConnection) -> None:
        self.connection: LibraryConnection = connection  # owns the socket
        self._parser: ReplyReader | None = wire.reply_reader() if hiredis else None
        self._socket = connection.sock
        self._seconds: float | None = self._socket.gettimeout()
        self.used: float = 0.0
        self.stale: Callable[[int], Sequence[object]] = wire.unread_input(self._socket)
        pending: Callable[[], int] | None = getattr(self._socket, "pending", None)
        if pending is not None:  # TLS may have read ahead
            self.stale = _or_pending(self.stale, pending)

    def usable(self) -> bool:
        """Return whether it is not `stale`."""
        return not self.stale(0)

    def ask(self, *command: object, timeout: float = wire.COMMAND_TIMEOUT) -> object:
        """Send one command and return the raw reply. Raises an error reply, and TimeoutError."""
        if timeout != self._seconds:
            self.limit(timeout)
        data = wire.pack_command(command)
        try:
            sent = self._socket.send(data)
        except OSError as error:
            raise NotSent(str(error) or CLOSED) from None
        if sent < len(data):
            self._socket.sendall(memoryview(data)[sent:])
        reply = self._replies(1, timeout)[0] if self._parser is None else self._reply(self._parser, timeout)
        if isinstance(reply, lib.ResponseError):
            raise reply
        return reply

    def ask_all(self, commands: list[Command], timeout: float = wire.COMMAND_TIMEOUT) -> list[object]:
        """Send commands in one write and return their replies in order, error replies among them."""
        self.limit(timeout)
        data = wire.pack_commands(commands)
        try:
            sent = self._socket.send(data)
        except OSError as error:
            raise NotSent(str(error) or CLOSED) from None
        if sent < len(data):
            self._socket.sendall(memoryview(data)[sent:])
        return self._replies(len(commands), timeout)

    def _reply(self, parser: ReplyReader, timeout: float) -> object:
        """Return one reply, in the usual case with one read."""
        try:
            data = self._socket.recv(65536)
            parser.feed(data)
            reply = parser.gets()
        except TimeoutError:
            raise lib.TimeoutError(f"no answer within {timeout:g} s") from None
        except wire.ProtocolError as error:
            raise lib.ConnectionError(f"the server sent an unreadable reply: {error!r}") from None
        if reply is not INCOMPLETE:
            return reply
        if not data:
            raise lib.ConnectionError(CLOSED)
        return self._replies(1, timeout)[0]

    def _replies(self, number: int, timeout: float) -> list[object]:
        end = time.monotonic() + timeout
        try:
            return [self._read(end) for _ in range(number)]
        except TimeoutError:
            raise lib.TimeoutError(f"no answer within {timeout:g} s") from None
        except wire.ProtocolError as error:
            raise lib.ConnectionError(f"the server sent an unreadable reply: {error!r}") from None

    def limit(self, seconds: float) -> None:
        """Set how long each wait on the socket may take."""
        self._socket.settimeout(seconds)
        self._seconds = seconds

    def _read(self, end: float) -> object:
        parser = self._parser
        if parser is None:
            return self._read_by_library()
        while (reply := parser.gets()) is INCOMPLETE:
            if time.monotonic() > end:
                raise TimeoutError
            data = self._socket.recv(65536)
            if not data:
                raise lib.ConnectionError(CLOSED)
            parser.feed(data)
        return reply

    def _read_by_library(self) -> object:
        try:
            return self.connection.read_response()
        except lib.ResponseError as error:
            return error

    def close(self) -> None:
        """Close the connection."""
        self.connection.disconnect()


def _or_pending(
    unread: Callable[[int], Sequence[object]], pending: Callable[[], int]
) -> Callable[[int], Sequence[object]]:
    return lambda wait: unread(wait) or ((True,) if pending() else ())
