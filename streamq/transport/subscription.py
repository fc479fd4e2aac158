"""Listens to channels: a message says "look now", never what is true.

Owns subscribed connections. Messages may be lost while a connection is away, so whoever listens looks
for himself after `connected` has changed and now and then anyway.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from redis import exceptions as lib

from streamq.transport.aio import AsyncTransport
from streamq.transport.faults import translate
from streamq.transport.sync import SyncTransport

Message = tuple[str, str]
PING_AFTER: Final = 20.0
"""Seconds of silence after which the connection is asked whether it still lives."""


def _message(raw: Any) -> Message | None:
    if raw[0] in (b"message", b"pmessage"):
        return raw[-2].decode("utf-8", "replace"), raw[-1].decode("utf-8", "replace")
    return None


class Subscription:
    """A subscription for a thread of its own."""

    def __init__(self, transport: SyncTransport, *channels: str) -> None:
        self._transport = transport
        self._channels = channels
        self._connection: Any = None
        self._heard = 0.0
        self._pinged = False

    def open(self) -> None:
        """Connect and subscribe; raises RedisUnavailable."""
        try:
            self._connection = self._transport.open()
            self._connection.send_command("SUBSCRIBE", *self._channels)
            for _ in self._channels:
                self._connection.read_response()
        except (lib.RedisError, OSError) as error:
            self.close()
            raise translate(error, str(self._transport.address)) from None
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
            self.close()
            raise translate(error, str(self._transport.address)) from None
        return None

    def _probe(self) -> None:
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
    """A subscription for an event loop; `pattern` takes channel names with wildcards."""

    def __init__(self, transport: AsyncTransport, channel: str, *, pattern: bool = False) -> None:
        self._transport = transport
        self._command = ("PSUBSCRIBE" if pattern else "SUBSCRIBE", channel)
        self._connection: Any = None
        self._reading: asyncio.Task[Any] | None = None
        self._heard = 0.0
        self._pinged = False

    async def open(self) -> None:
        """Connect and subscribe; raises RedisUnavailable."""
        try:
            self._connection = await self._transport.connect(socket_timeout=None)
            await self._connection.send_command(*self._command)
            await self._connection.read_response(timeout=5.0)
        except (lib.RedisError, OSError) as error:
            await self.aclose()
            raise translate(error, str(self._transport.address)) from None
        self._heard, self._pinged = time.monotonic(), False

    async def next(self, timeout: float) -> Message | None:
        """The next message, or None when `timeout` seconds have passed without one.

        The read goes on in a task of its own between two calls: it is never cancelled half way.
        """
        deadline = time.monotonic() + timeout
        try:
            while (left := deadline - time.monotonic()) > 0:
                if message := await self._read(min(left, PING_AFTER)):
                    return message
        except (lib.RedisError, OSError) as error:
            await self.aclose()
            raise translate(error, str(self._transport.address)) from None
        return None

    async def _read(self, timeout: float) -> Message | None:
        if self._reading is None:
            self._reading = self._transport.spawn(self._connection.read_response(timeout=86400.0))
        done, _ = await asyncio.wait((self._reading,), timeout=timeout)
        if not done:
            await self._probe()
            return None
        task, self._reading = self._reading, None
        self._heard, self._pinged = time.monotonic(), False
        return _message(task.result())

    async def _probe(self) -> None:
        if time.monotonic() - self._heard < PING_AFTER:
            return
        if self._pinged:
            raise lib.TimeoutError("the subscribed connection is silent")
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
