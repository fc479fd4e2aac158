"""Subscriptions to channels: a message says that something changed; its reader must look for itself.

Owns subscribed connections. Messages may be lost while a connection is down, so a reader also looks after
`connected` has changed, and from time to time. Any node of a cluster serves, as the nodes forward messages to
each other; when a node no longer serves, the subscription moves to another.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from redis import exceptions as lib

from streamq.errors import RedisError
from streamq.transport import wire
from streamq.transport.address import Address
from streamq.transport.async_connect import connect
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.budget import Budget
from streamq.transport.channel_reader import ChannelReader, Push, channel_reader
from streamq.transport.faults import naming_rights, translate
from streamq.transport.sync_link import LibraryConnection
from streamq.transport.sync_transport import SyncTransport
from streamq.transport.topology import Node

Message = tuple[str, str]
"""The channel and the data."""
PING_AFTER: Final = 20.0
"""Seconds of silence after which a PING checks the connection."""
_MOVED: Final = "it no longer serves: the subscription moves to another node"


def _message(push: Push) -> Message | None:
    return (push.channel, push.data) if push.kind in (b"message", b"pmessage") else None


class _Liveness:
    """When a subscribed connection was last known to be alive."""

    def __init__(self) -> None:
        self._seen = 0.0
        self._pinged = False

    def seen(self) -> None:
        """Note that the server sent something."""
        self._seen, self._pinged = time.monotonic(), False

    def must_ping(self) -> bool:
        """Return whether to send a PING now. Raises TimeoutError if the last one got no reply."""
        if time.monotonic() - self._seen < PING_AFTER:
            return False
        if self._pinged:
            raise lib.TimeoutError("the subscribed connection is silent")
        self._pinged, self._seen = True, time.monotonic()
        return True


def _error_of(address: Address, node: Node | None, error: Exception) -> RedisError:
    if node is None:
        return translate(error, str(address), address.source)
    return naming_rights(translate(error, node.shown, address.source), address.namespace.rights)


class Subscription:
    """A subscription for a thread of its own."""

    def __init__(self, transport: SyncTransport, *channels: str) -> None:
        self._transport = transport
        self._channels = channels
        self._node: Node | None = None
        self._connection: LibraryConnection | None = None
        self._liveness = _Liveness()

    def open(self, within: float = wire.COMMAND_TIMEOUT) -> None:
        """Connect and subscribe, within so many seconds. Raises RedisErrors."""
        budget = Budget(0, within)
        tried: set[Node] = set()
        node = self._transport.find(None) or self._transport.discover(None, budget)
        while self._connection is None:
            tried.add(node)
            try:
                self._subscribe(node, budget)
            except (lib.RedisError, OSError) as error:
                failed, other = self._failed(error), self._transport.find(None)
                if other is None or other in tried:
                    raise failed from None
                node = other

    def _subscribe(self, node: Node, budget: Budget) -> None:
        self._node = node
        link = self._transport.open(node, budget)
        self._connection = link.connection
        link.limit(budget.left(wire.COMMAND_TIMEOUT))
        link.connection.send_command("SUBSCRIBE", *self._channels)
        for _ in self._channels:
            link.connection.read_response()
        self._liveness.seen()

    def next(self, timeout: float) -> Message | None:
        """Return the next message; None if `timeout` seconds have passed without one. Raises RedisErrors."""
        deadline = time.monotonic() + timeout
        try:
            while (left := deadline - time.monotonic()) > 0:
                if (message := self._read(min(left, PING_AFTER))) is not None:
                    return message
        except (lib.RedisError, OSError) as error:
            raise self._failed(error) from None
        return None

    def _read(self, timeout: float) -> Message | None:
        if self._connection is None:
            raise lib.ConnectionError("closed")
        if self._connection.can_read(timeout):
            self._liveness.seen()
            return _message(Push.of(self._connection.read_response()))
        if self._node is not None and not self._transport.serves(self._node):
            raise lib.ConnectionError(_MOVED)
        if self._liveness.must_ping():
            self._connection.send_command("PING")
        return None

    def _failed(self, error: Exception) -> RedisError:
        node, self._node = self._node, None
        self.close()
        if node is not None:
            self._transport.handle_failure(node, error)
        return _error_of(self._transport.address, node, error)

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()


class AsyncSubscription:
    """A subscription for an event loop."""

    def __init__(self, transport: AsyncTransport, *channels: str) -> None:
        self._transport = transport
        self._channels = channels
        self._node: Node | None = None
        self._reader: ChannelReader | None = None
        self._unread: deque[Push] = deque()
        self._liveness = _Liveness()

    async def open(self, within: float = wire.COMMAND_TIMEOUT) -> None:
        """Connect and subscribe, within so many seconds. Raises RedisErrors."""
        budget = Budget(0, within)
        tried: set[Node] = set()
        node = self._transport.find(None) or await self._transport.discover(None, budget)
        while self._reader is None:
            tried.add(node)
            try:
                await self._subscribe(node, budget)
            except (lib.RedisError, OSError) as error:
                failed, other = await self._failed(error), self._transport.find(None)
                if other is None or other in tried:
                    raise failed from None
                node = other
            except BaseException:  # it was cancelled: nobody else would close what is half open
                await self.aclose()
                raise

    async def _subscribe(self, node: Node, budget: Budget) -> None:
        self._node = node
        connection = await connect(node.address, budget=budget, socket_timeout=None)
        self._reader = reader = channel_reader(connection, self._transport.spawn)
        await reader.send("SUBSCRIBE", *self._channels)
        left = len(self._channels)
        while left > 0:
            for push in await reader.read(budget.left(wire.COMMAND_TIMEOUT)):
                if push.kind == b"subscribe":
                    left -= 1
                else:
                    self._unread.append(push)  # on a channel that is subscribed already
        self._liveness.seen()

    async def next(self, timeout: float) -> Message | None:
        """Return the next message; None if `timeout` seconds have passed without one. Raises RedisErrors."""
        deadline = time.monotonic() + timeout
        while True:
            while self._unread:
                if (message := _message(self._unread.popleft())) is not None:
                    return message
            if (left := deadline - time.monotonic()) <= 0:
                return None
            self._unread.extend(await self.receive(left))

    async def receive(self, timeout: float) -> list[Push]:
        """Return what the server pushed since, confirmations too; nothing if it is silent for so many
        seconds. Raises RedisErrors."""
        if self._unread:
            unread = list(self._unread)
            self._unread.clear()
            return unread
        deadline = time.monotonic() + timeout
        try:
            while (left := deadline - time.monotonic()) > 0:
                if pushes := await self._read(min(left, PING_AFTER)):
                    return pushes
        except (lib.RedisError, OSError) as error:
            raise await self._failed(error) from None
        return []

    async def change(self, command: str, channels: Sequence[str]) -> None:
        """SUBSCRIBE to more channels, or UNSUBSCRIBE from some. `receive` returns each confirmation, and
        raises if the connection is lost."""
        if self._reader is not None:
            with suppress(lib.RedisError, OSError):
                await self._reader.send(command, *channels)

    async def _read(self, timeout: float) -> list[Push]:
        if self._reader is None:
            raise lib.ConnectionError("closed")
        pushes = await self._reader.read(timeout)
        if pushes:
            self._liveness.seen()
            return pushes
        if self._node is not None and not self._transport.serves(self._node):
            raise lib.ConnectionError(_MOVED)
        if self._liveness.must_ping():
            await self._reader.send("PING")
        return []

    async def _failed(self, error: Exception) -> RedisError:
        node, self._node = self._node, None
        await self.aclose()
        if node is not None:
            await self._transport.handle_failure(node, error)
        return _error_of(self._transport.address, node, error)

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._reader is not None

    async def aclose(self) -> None:
        """Close the connection."""
        reader, self._reader = self._reader, None
        self._unread.clear()
        if reader is not None:
            await reader.aclose()

    def abandon(self) -> None:
        """Close the connection after the event loop was closed."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.abandon()
