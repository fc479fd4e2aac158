"""Listens to channels: a message says "look now", never what is true.

Owns subscribed connections. Messages may be lost while a connection is away, so whoever listens looks
for himself after `connected` has changed and now and then anyway. Any node of a cluster will do, as they
pass messages on to one another; a node that no longer serves is left for another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from redis import exceptions as lib

from streamq.transport import wire
from streamq.transport.aio import AsyncTransport, connect
from streamq.transport.faults import naming_rights, translate
from streamq.transport.link import reset_told
from streamq.transport.patience import Effort
from streamq.transport.sync import SyncTransport
from streamq.transport.topology import Node

Message = tuple[str, str]
PING_AFTER: Final = 20.0
"""Seconds of silence after which the connection is asked whether it still lives."""


_LEFT: Final = "it no longer serves: the subscription moves to another node"


def _message(raw: Any) -> Message | None:
    if raw[0] in (b"message", b"pmessage"):
        return raw[-2].decode("utf-8", "replace"), raw[-1].decode("utf-8", "replace")
    return None


class Subscription:
    """A subscription for a thread of its own."""

    def __init__(self, transport: SyncTransport, *channels: str) -> None:
        self._transport = transport
        self._channels = channels
        self._node: Node | None = None
        self._connection: Any = None
        self._heard = 0.0
        self._pinged = False

    def open(self, within: float = wire.COMMAND_TIMEOUT) -> None:
        """Connect and subscribe, within so many seconds; raises RedisErrors."""
        effort = Effort(0, within)
        tried: set[Node] = set()
        node = self._transport.find(None) or self._transport.discovered(None, effort)
        while self._connection is None:
            tried.add(node)
            try:
                self._subscribe(node, effort)
            except (lib.RedisError, OSError) as error:
                failed, other = self._failed(error), self._transport.find(None)
                if other is None or other in tried:
                    raise failed from None
                node = other

    def _subscribe(self, node: Node, effort: Effort) -> None:
        self._node = node
        link = self._transport.open(node, effort)
        self._connection = link.connection
        link.limit(effort.left(wire.COMMAND_TIMEOUT))
        self._connection.send_command("SUBSCRIBE", *self._channels)
        for _ in self._channels:
            self._connection.read_response()
        self._heard, self._pinged = time.monotonic(), False

    def next(self, timeout: float) -> Message | None:
        """The next message, or None when `timeout` seconds have passed without one."""
        deadline = time.monotonic() + timeout
        try:
            while (left := deadline - time.monotonic()) > 0:
                if self._connection.can_read(min(left, PING_AFTER)):
                    self._heard, self._pinged = time.monotonic(), False
                    if message := _message(self._connection.read_response()):
                        return message
                else:
                    self._probe()
        except (lib.RedisError, OSError) as error:
            raise self._failed(error) from None
        return None

    def _failed(self, error: Exception) -> Exception:
        node, self._node = self._node, None
        self.close()
        if node is None:
            return translate(error, str(self._transport.address), self._transport.address.source)
        self._transport.turn(node, error)
        return naming_rights(
            translate(error, node.shown, self._transport.address.source),
            self._transport.address.namespace.rights,
        )

    def _probe(self) -> None:
        if self._node is not None and not self._transport.serves(self._node):
            raise lib.ConnectionError(_LEFT)
        if time.monotonic() - self._heard < PING_AFTER:
            return
        if self._pinged:
            raise lib.TimeoutError("the subscribed connection is silent")
        self._connection.send_command("PING")
        self._pinged, self._heard = True, time.monotonic()

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()


class AsyncSubscription:
    """A subscription for an event loop."""

    def __init__(self, transport: AsyncTransport, *channels: str) -> None:
        self._transport = transport
        self._channels = channels
        self._node: Node | None = None
        self._connection: Any = None
        self._reading: asyncio.Task[Any] | None = None
        self._heard = 0.0
        self._pinged = False

    async def open(self, within: float = wire.COMMAND_TIMEOUT) -> None:
        """Connect and subscribe, within so many seconds; raises RedisErrors."""
        effort = Effort(0, within)
        tried: set[Node] = set()
        node = self._transport.find(None) or await self._transport.discovered(None, effort)
        while self._connection is None:
            tried.add(node)
            try:
                await self._subscribe(node, effort)
            except (lib.RedisError, OSError) as error:
                failed, other = await self._failed(error), self._transport.find(None)
                if other is None or other in tried:
                    raise failed from None
                node = other

    async def _subscribe(self, node: Node, effort: Effort) -> None:
        self._node = node
        self._connection = await connect(node.address, effort=effort, socket_timeout=None)
        with reset_told():
            await self._connection.send_command("SUBSCRIBE", *self._channels)
        for _ in self._channels:
            await self._connection.read_response(timeout=effort.left(wire.COMMAND_TIMEOUT))
        self._heard, self._pinged = time.monotonic(), False

    async def next(self, timeout: float) -> Message | None:
        """The next message, or None when `timeout` seconds have passed without one.

        The read goes on in a task of its own between two calls: it is never cancelled half way.
        """
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            raw = await self.receive(left)
            if raw is not None and (message := _message(raw)):
                return message
        return None

    async def receive(self, timeout: float) -> Any:
        """The next that the server says, confirmations too, as it is; None where it says nothing."""
        deadline = time.monotonic() + timeout
        try:
            while (left := deadline - time.monotonic()) > 0:
                if raw := await self._read(min(left, PING_AFTER)):
                    return raw
        except (lib.RedisError, OSError) as error:
            raise await self._failed(error) from None
        return None

    async def change(self, command: str, channels: Sequence[str]) -> None:
        """SUBSCRIBE to more channels, or UNSUBSCRIBE from some. `receive` brings the confirmation of each,
        and raises where the connection is lost."""
        with suppress(lib.RedisError, OSError), reset_told():
            await self._connection.send_command(command, *channels)

    async def _failed(self, error: Exception) -> Exception:
        node, self._node = self._node, None
        await self.aclose()
        if node is None:
            return translate(error, str(self._transport.address), self._transport.address.source)
        await self._transport.turn(node, error)
        return naming_rights(
            translate(error, node.shown, self._transport.address.source),
            self._transport.address.namespace.rights,
        )

    async def _read(self, timeout: float) -> Any:
        if self._reading is None:
            self._reading = self._transport.spawn(self._connection.read_response(timeout=86400.0))
        done, _ = await asyncio.wait((self._reading,), timeout=timeout)
        if not done:
            await self._probe()
            return None
        task, self._reading = self._reading, None
        self._heard, self._pinged = time.monotonic(), False
        return task.result()

    async def _probe(self) -> None:
        if self._node is not None and not self._transport.serves(self._node):
            raise lib.ConnectionError(_LEFT)
        if time.monotonic() - self._heard < PING_AFTER:
            return
        if self._pinged:
            raise lib.TimeoutError("the subscribed connection is silent")
        with reset_told():
            await self._connection.send_command("PING")
        self._pinged, self._heard = True, time.monotonic()

    @property
    def connected(self) -> bool:
        return self._connection is not None

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        reading, self._reading = self._reading, None
        if connection is not None:
            await connection.disconnect(nowait=True)
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
