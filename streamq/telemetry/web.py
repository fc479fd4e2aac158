"""A small HTTP server for probes and scrapes, on a TCP port or a unix socket.

Owns the connection: one request, one answer, bounded in size, time and number, so that a slow or hostile
client costs its own connection and nothing else. Knows no route by name: they are given to it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import orjson

from streamq.errors import UsageError
from streamq.telemetry.listen import MOST_CLIENTS, Listen

HEAD_LIMIT: Final = 8 * 1024
BODY_LIMIT: Final = 4 * 1024
PATIENCE: Final = 5.0
"""Seconds for a client to send its request, and again to take the answer."""
_REASONS: Final = {
    200: "OK", 202: "Accepted", 400: "Bad Request", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 408: "Request Timeout", 413: "Content Too Large",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented",
    503: "Service Unavailable",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """What a route may want to know. `local`: over loopback or a unix socket. Header names are lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    local: bool


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. `json` makes one of a value."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, status: int, value: object) -> Response:
        return cls(status, orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE), "application/json")

    @classmethod
    def text(cls, status: int, text: str) -> Response:
        return cls(status, f"{text}\n".encode())


Route = Callable[[Request], Awaitable[Response]]
Routes = Mapping[tuple[str, str], Route]
"""What answers, by method and path. HEAD is answered by GET's."""


class WebServer:
    """Serves routes in the running event loop, on sockets that are bound already."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._servers: list[asyncio.Server] = []
        self._clients: set[asyncio.Task[Any]] = set()

    async def start(self, sockets: list[socket.socket]) -> None:
        for one in sockets:
            start = asyncio.start_unix_server if one.family == socket.AF_UNIX else asyncio.start_server
            self._servers.append(await start(self._client, sock=one, limit=HEAD_LIMIT))

    async def aclose(self) -> None:
        """Stop listening and cut off who is still there."""
        for server in self._servers:
            server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        if me is None or len(self._clients) >= MOST_CLIENTS:
            writer.transport.abort()
            return
        self._clients.add(me)
        try:
            await self._exchange(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._clients.discard(me)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                request = await _read(reader, local=_is_local(writer))
        except TimeoutError:
            request = Response.text(408, "the request took too long")
        response = request if isinstance(request, Response) else await self._answer(request)
        writer.write(_packed(response, body=isinstance(request, Response) or request.method != "HEAD"))
        async with asyncio.timeout(PATIENCE):
            await writer.drain()
            writer.write_eof()
            await reader.read(BODY_LIMIT)  # until the client has taken it

    async def _answer(self, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        route = self._routes.get((method, request.path))
        if route is None:
            others = [known for known, path in self._routes if path == request.path]
            if others:
                return Response.text(405, f"{request.path} takes {', '.join(others)}")
            paths = " ".join(sorted({path for _, path in self._routes}))
            return Response.text(404, f"there is {paths}")
        try:
            return await route(request)
        except UsageError as error:
            return Response.text(501, str(error))
        except Exception as error:  # noqa: BLE001 - a broken scrape must not end the server
            from streamq.telemetry.logs import get_logger  # noqa: PLC0415 - rarely needed

            get_logger().exception("web.failed", path=request.path, error=repr(error))
            return Response.text(500, "failed: see the log")


async def _read(reader: asyncio.StreamReader, *, local: bool) -> Request | Response:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return Response.text(431, f"the request's head is larger than {HEAD_LIMIT} bytes")
    first, *lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, protocol = first.split(" ")
        parts = urlsplit(target)
    except ValueError:
        return Response.text(400, "this is no HTTP request")
    if not protocol.startswith("HTTP/1."):
        return Response.text(400, "HTTP/1.1 is spoken here")
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not length.isascii() or not length.isdigit():
        return Response.text(400, "a body is not understood here")
    if len(length) > 9 or int(length) > BODY_LIMIT:
        return Response.text(413, f"no body over {BODY_LIMIT} bytes")
    await reader.readexactly(int(length))
    return Request(method, parts.path, dict(parse_qsl(parts.query)), headers, local)


def _is_local(writer: asyncio.StreamWriter) -> bool:
    peer = writer.get_extra_info("peername")
    if not isinstance(peer, tuple):
        return True  # a unix socket: who may open it is the file system's business
    with suppress(ValueError):
        address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback
    return False


def _packed(response: Response, *, body: bool) -> bytes:
    headers = {
        "Content-Type": response.content_type,
        "Content-Length": str(len(response.body)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Connection": "close",
        **response.headers,
    }
    lines = [f"HTTP/1.1 {response.status} {_REASONS[response.status]}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (response.body if body else b"")


class WebThread:
    """The server in a thread with an event loop of its own, for a process that has none."""

    def __init__(self, listen: Listen, routes: Routes) -> None:
        self._listen, self._routes = listen, routes
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="streamq-web", daemon=True)
        self._sockets: list[socket.socket] = []

    def start(self) -> None:
        """Listen; raises CannotListen where that cannot be."""
        try:
            self._sockets = self._listen.sockets()
        except BaseException:
            self._loop.close()
            raise
        self._thread.start()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = WebServer(self._routes)
        await server.start(self._sockets)
        await self._stop.wait()
        await server.aclose()

    def close(self) -> None:
        """Stop and wait for the thread; safe to call without a start."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(PATIENCE)
        elif not self._loop.is_closed():
            self._loop.close()
        unlink(self._listen)


def unlink(listen: Listen) -> None:
    """Remove the socket's file at the end."""
    if listen.path is not None:
        with suppress(OSError):
            listen.path.unlink()
