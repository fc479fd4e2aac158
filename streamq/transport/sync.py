"""Runs Calls from plain code and threads.

Owns a small pool of connections and the resending of calls. Each connection is used by one thread at a
time. Safe to share between threads; after a fork the child starts with no connections.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import redis
from redis import exceptions as lib
from redis.backoff import NoBackoff
from redis.retry import Retry

from streamq.calls import Call
from streamq.errors import RedisUnavailable
from streamq.transport import server, wire
from streamq.transport.address import Address
from streamq.transport.faults import final, translate
from streamq.transport.patience import policy

R = TypeVar("R")
_CLASSES: dict[str, Any] = {
    "tcp": redis.Connection,
    "tls": redis.SSLConnection,
    "unix": redis.UnixDomainSocketConnection,
}


def connect(address: Address, **more: Any) -> Any:
    """A connected connection of the client library; raises its errors."""
    kwargs = wire.settings(address) | more
    connection = _CLASSES[address.kind](retry=Retry(NoBackoff(), 0), **kwargs)
    connection.connect()
    return connection


def ask(connection: Any, *command: Any) -> Any:
    connection.send_packed_command(wire.packed(connection, command))
    return connection.read_response()


def ask_both(connection: Any, command: tuple[Any, ...], confirm: tuple[Any, ...]) -> tuple[Any, Any]:
    """Two commands in one write. Raises what the first was answered with; the second's error is a reply."""
    packed = [*wire.packed(connection, command), *wire.packed(connection, confirm)]
    connection.send_packed_command(packed)
    replies: list[Any] = []
    for _ in range(2):
        try:
            replies.append(connection.read_response())
        except lib.ResponseError as error:
            replies.append(error)
    return wire.both(replies)


class SyncTransport:
    """Runs calls on one server. `patience` is how many seconds a call is tried while it is away."""

    def __init__(self, address: Address, *, patience: float = 5.0) -> None:
        self._address = address
        self._patience = patience
        self._idle: list[Any] = []
        self._lock = threading.Lock()
        self._resolved: Address | None = None
        self.info: server.ServerInfo | None = None

    @property
    def address(self) -> Address:
        if self._resolved is None:
            self._resolved = self._address.resolve()
        return self._resolved

    def run(self, call: Call[R], *, patience: float | None = None) -> R:
        """Ask the server, again while it is away; the same call twice has the effect of one.

        Raises RedisUnavailable when the patience is used up before the call could be sent,
        OutcomeUnknown when it was sent and no answer came, and other RedisErrors as they are answered.
        """
        sent: list[bool] = []
        try:
            return self._attempt(call, sent)
        except RedisUnavailable as error:
            return self._persist(call, sent, error, self._patience if patience is None else patience)

    def _persist(self, call: Call[R], sent: list[bool], first: RedisUnavailable, patience: float) -> R:
        # The first attempt has been made: no patience, no second.
        if patience <= 0:
            raise final(first, sent) from None
        from tenacity import Retrying  # noqa: PLC0415 - as in `patience`

        again = Retrying(**policy(patience))
        try:
            reply: R = again(self._attempt, call, sent)
        except RedisUnavailable as error:
            raise final(error, sent) from None
        return reply

    def _attempt(self, call: Call[R], sent: list[bool]) -> R:
        try:
            connection = self._take()
        except (lib.RedisError, OSError) as error:
            raise translate(error, str(self._address)) from None
        try:
            sent.append(True)
            reply = self._exchange(connection, call)
        except lib.ResponseError as error:
            self._give(connection)
            sent.pop()  # an answer, though a bad one
            raise translate(error, str(self._address)) from None
        except (lib.RedisError, OSError) as error:
            connection.disconnect()
            raise translate(error, str(self._address)) from None
        except BaseException:
            connection.disconnect()  # a reply may be under way: nobody else may read it
            raise
        self._give(connection)
        return call.parse(reply)

    def _exchange(self, connection: Any, call: Call[Any]) -> Any:
        if call.confirm is not None:
            return self._exchange_both(connection, call, call.confirm)
        try:
            return ask(connection, *wire.by_sha(call))
        except lib.NoScriptError:
            return ask(connection, *wire.by_text(call))

    def _exchange_both(self, connection: Any, call: Call[Any], confirm: tuple[Any, ...]) -> Any:
        try:
            return ask_both(connection, wire.by_sha(call), confirm)
        except lib.NoScriptError:
            return ask_both(connection, wire.by_text(call), confirm)

    def _take(self) -> Any:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self.open()

    def _give(self, connection: Any) -> None:
        with self._lock:
            if len(self._idle) < wire.IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.disconnect()

    def open(self) -> Any:
        """A new connection to a server that is new enough; raises the client library's errors."""
        connection = connect(self.address)
        try:
            found = server.read(ask(connection, *wire.INFO))
        except lib.NoPermissionError:  # a user without INFO: the version stays unknown
            return connection
        try:
            server.check(found, str(self._address))
        except BaseException:
            connection.disconnect()
            raise
        self.info = found
        return connection

    def forget(self) -> None:
        """Start anew without touching the sockets: after a fork they are the parent's."""
        self._lock = threading.Lock()
        self._idle = []

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.disconnect()
