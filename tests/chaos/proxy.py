"""TCP between clients and server that can go wrong: `python -m tests.chaos.proxy SERVER_PORT NAME...`

A program of its own. Prints one line, the ports it listens on for each name; takes one JSON object a line
on standard input: {"name", "mode", ...}. Owns the sockets; it never looks into what it forwards.

Modes: `clear`; `latency` (`seconds` in each direction); `black_hole` (takes everything, passes nothing on,
closes nothing); `refuse` (no new connections); and at once: `reset` (RST to both sides of all connections),
`half_open` (the server's side is closed, the client is not told), `drop_replies` (the next `number` answers
are swallowed and their connections reset).
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

_CHUNK = 65536
_LINGER = struct.pack("ii", 1, 0)


@dataclass
class Route:
    """One listener and the state of its network."""

    port: int
    latency: float = 0.0
    drop: int = 0
    refuse: bool = False
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    pairs: set[Pair] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.flowing.set()

    def set(self, order: dict[str, Any]) -> None:
        """Change the weather."""
        mode = order["mode"]
        if mode == "reset":
            for pair in list(self.pairs):
                pair.reset()
        elif mode == "half_open":
            for pair in list(self.pairs):
                pair.half_open()
        elif mode == "drop_replies":
            self.drop = order["number"]
        else:
            self.latency = order.get("seconds", 0.0) if mode == "latency" else 0.0
            self.refuse = mode == "refuse"
            (self.flowing.clear if mode == "black_hole" else self.flowing.set)()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.refuse:
                raise ConnectionRefusedError
            upstream = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            _abort(writer)
            return
        pair = Pair(self, writer, upstream[1])
        self.pairs.add(pair)
        try:
            await asyncio.gather(
                pair.pump(reader, upstream[1], replies=False), pair.pump(upstream[0], writer, replies=True)
            )
        finally:
            self.pairs.discard(pair)
            pair.reset()


class Pair:
    """A client's connection and ours to the server for it."""

    def __init__(self, route: Route, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._route, self._client, self._server = route, client, server
        self._silent = False

    async def pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, replies: bool
    ) -> None:
        with suppress(OSError):
            while data := await source.read(_CHUNK):
                if self._route.latency:
                    await asyncio.sleep(self._route.latency)
                await self._route.flowing.wait()
                if replies and self._route.drop > 0:
                    self._route.drop -= 1
                    break
                target.write(data)
                await target.drain()
        if not self._silent:
            self.reset()

    def reset(self) -> None:
        _abort(self._client)
        _abort(self._server)

    def half_open(self) -> None:
        self._silent = True
        _abort(self._server)


def _abort(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST instead of FIN."""
    if not writer.transport.is_closing():
        with suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        writer.transport.abort()


async def serve(port: int, names: list[str]) -> None:
    routes = {name: Route(port) for name in names}
    ports: dict[str, int] = {}
    for name, route in routes.items():
        server = await asyncio.start_server(route.accept, "127.0.0.1", 0)
        ports[name] = server.sockets[0].getsockname()[1]
    sys.stdout.write(orjson.dumps(ports).decode() + "\n")
    sys.stdout.flush()
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    while line := await orders.readline():
        order = orjson.loads(line)
        routes[order["name"]].set(order)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2:]))
