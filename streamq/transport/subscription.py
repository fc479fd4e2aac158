"""Listens to channels: a message says "look now", never what is true.

Owns subscribed connections. Messages may be lost while a connection is away, so whoever listens looks
for himself after `connected` has changed and now and then anyway. Any node of a cluster will do, as they
pass messages on to one another; a node that no longer serves is left for another.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from redis import exceptions as lib

from streamq.transport import wire
from streamq.transport.async_transport import AsyncTransport, connect
from streamq.transport.channel_reader import Ear, listen
from streamq.transport.effort import Effort
from streamq.transport.faults import naming_rights, translate
from streamq.transport.sync_transport import SyncTransport
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
        self._ear: Ear | None = None
        self._said: deque[Any] = deque()
        self._heard = 0.0
        self._pinged = False

    async def open(self, within: float = wire.COMMAND_TIMEOUT) -> None:
        """Connect and subscribe, within so many seconds; raises RedisErrors."""
        effort = Effort(0, within)
        tried: set[Node] = set()
        node = self._transport.find(None) or await self._transport.discovered(None, effort)
        while self._ear is None:
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
        connection = await connect(node.address, effort=effort, socket_timeout=None)
        self._ear = ear = listen(connection, self._transport.spawn)
        await ear.say("SUBSCRIBE", *self._channels)
        left = len(self._channels)
        while left > 0:
            for raw in await ear.hear(effort.left(wire.COMMAND_TIMEOUT)):
                if isinstance(raw, Exception):
                    raise raw
                if raw[0] == b"subscribe":
                    left -= 1
                else:
                    self._said.append(raw)  # of a channel that is subscribed already
        self._heard, self._pinged = time.monotonic(), False

    async def next(self, timeout: float) -> Message | None:
        """The next message, or None when `timeout` seconds have passed without one. Raises RedisErrors."""
        deadline = time.monotonic() + timeout
        while True:
            while self._said:
                if (message := _message(self._said.popleft())) is not None:
                    return message
            if (left := deadline - time.monotonic()) <= 0:
                return None
            self._said.extend(await self.receive(left))

    async def receive(self, timeout: float) -> list[Any]:
        """What the server has said since, confirmations too, as it is; nothing where it is silent for so many
        seconds. Raises RedisErrors."""
        if self._said:
            said = list(self._said)
            self._said.clear()
            return said
        deadline = time.monotonic() + timeout
        try:
            while (left := deadline - time.monotonic()) > 0:
                if said := await self._hear(min(left, PING_AFTER)):
                    return said
        except (lib.RedisError, OSError) as error:
            raise await self._failed(error) from None
        return []

    async def change(self, command: str, channels: Sequence[str]) -> None:
        """SUBSCRIBE to more channels, or UNSUBSCRIBE from some. `receive` brings the confirmation of each,
        and raises where the connection is lost."""
        if self._ear is not None:
            with suppress(lib.RedisError, OSError):
                await self._ear.say(command, *channels)

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

    async def _hear(self, timeout: float) -> list[Any]:
        if self._ear is None:
            raise lib.ConnectionError("closed")
        said = await self._ear.hear(timeout)
        if not said:
            await self._probe(self._ear)
            return said
        for raw in said:
            if isinstance(raw, Exception):
                raise raw
        self._heard, self._pinged = time.monotonic(), False
        return said

    async def _probe(self, ear: Ear) -> None:
        if self._node is not None and not self._transport.serves(self._node):
            raise lib.ConnectionError(_LEFT)
        if time.monotonic() - self._heard < PING_AFTER:
            return
        if self._pinged:
            raise lib.TimeoutError("the subscribed connection is silent")
        await ear.say("PING")
        self._pinged, self._heard = True, time.monotonic()

    @property
    def connected(self) -> bool:
        return self._ear is not None

    async def aclose(self) -> None:
        ear, self._ear = self._ear, None
        self._said.clear()
        if ear is not None:
            await ear.aclose()
