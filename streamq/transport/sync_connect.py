"""Opens sync connections: with the client library, within the time of one call, and logged in.

Owns how the library connects: every address of a name is tried in the call's time. Raises the library's
errors. Must not know which server is meant: see `sync_transport`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from socket import socket
from ssl import SSLSocket
from typing import Any, Final

import redis
from redis import exceptions as lib
from redis.backoff import NoBackoff
from redis.retry import Retry

from streamq.errors import RedisError
from streamq.stepper import Stepper
from streamq.transport import dns, login, wire
from streamq.transport.address import Address
from streamq.transport.budget import Budget
from streamq.transport.sync_link import LibraryConnection, SyncLink
from streamq.transport.topology import Discovery, Node
from streamq.transport.wire import Command


class _Bare:
    """Replaces the library's own login: attach its parser to the socket, and nothing else."""

    _parser: Any
    _sock: socket

    @property
    def sock(self) -> socket:
        return self._sock

    def on_connect(self) -> None:
        self._parser.on_connect(self)

    def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: ARG002 - the library's signature
        self._parser.on_connect(self)


class _Timed(redis.Connection):
    """Resolves the host and tries each of its addresses within the time of one call. The library would take
    the whole time for each address, and has no limit for the lookup."""

    budget: Budget

    def _connect(self) -> socket:
        connect: Callable[[], socket] = super()._connect
        if dns.is_address(self.host):
            return connect()
        name, most = self.host, float(self.socket_connect_timeout or login.CONNECT_TIMEOUT)
        addresses = dns.resolve(name, self.budget.left())
        for n, address in enumerate(addresses, 1):
            try:
                self.host = address
                self.socket_connect_timeout = self.budget.left(most) / (len(addresses) - n + 1)
                return connect()
            except OSError:
                if n == len(addresses):
                    raise
            finally:
                self.host, self.socket_connect_timeout = name, most
        raise OSError(f"{name} has no address")


class _Tls(redis.SSLConnection):
    """Shares its TLS context with other connections."""

    address: Address

    def _wrap_socket_with_ssl(self, sock: socket) -> SSLSocket:
        from streamq.transport import tls  # noqa: PLC0415 - most servers are without

        return tls.context(self.address).wrap_socket(sock, server_hostname=self.host)


_CLASSES: Final[dict[str, Any]] = {
    "tcp": type("TcpConnection", (_Bare, _Timed), {}),
    "tls": type("TlsConnection", (_Bare, _Tls, _Timed), {}),
    "unix": type("UnixConnection", (_Bare, redis.UnixDomainSocketConnection), {}),
}


def connect(address: Address, *, budget: Budget, **more: object) -> LibraryConnection:
    """Return a connection of the client library that is logged in. Raises its errors."""
    kwargs: dict[str, Any] = {**login.settings(address), **more}
    for name in ("socket_connect_timeout", "socket_timeout"):
        kwargs[name] = budget.left(kwargs[name])
    connection = _CLASSES[address.kind](retry=Retry(NoBackoff(), 0), **kwargs)
    connection.budget, connection.address = budget, address
    try:
        connection.connect()
        _log_in(connection.sock, address, budget, kwargs["socket_timeout"])
    except BaseException:
        connection.disconnect()
        raise
    opened: LibraryConnection = connection
    return opened


def _log_in(connected: socket, address: Address, budget: Budget, most: float) -> None:
    commands = login.commands(address)
    try:
        connected.settimeout(budget.left(most))
        with suppress(OSError):  # a server that refuses us has sent the reason before it closed
            connected.sendall(wire.pack_commands(commands))
        with connected.makefile("rb") as lines:  # each reply is one line, and nothing else is sent
            for command in commands:
                connected.settimeout(budget.left(most))
                login.check_reply(command, lines.readline(login.LONGEST_LINE))
    except TimeoutError:
        raise lib.TimeoutError(login.SILENT) from None
    except ConnectionError:
        raise lib.ConnectionError(login.CLOSED_AT_ONCE) from None


def run_discovery(discovery: Discovery, budget: Budget) -> Node:
    """Run a discovery, each of its questions on a connection of its own; return the node it finds."""
    steps = Stepper(discovery)
    while steps.step is not None:
        try:
            reply = _ask(*steps.step, budget)
        except (RedisError, lib.RedisError, OSError) as error:
            steps.throw(error)
        else:
            steps.send(reply)
    return steps.result


def _ask(address: Address, command: Command, budget: Budget) -> object:
    link = SyncLink(connect(address, budget=budget, **login.SHORT_TIMEOUTS))
    try:
        return link.ask(*command, timeout=budget.left(login.SHORT_TIMEOUTS["socket_timeout"]))
    finally:
        link.close()
