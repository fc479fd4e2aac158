"""A small HTTP server for probes and scrapes, on a TCP port or a unix socket.

Owns the connection: one request, one response, bounded in size, time and number, so that a slow or hostile
client affects only its own connection. Silent clients make room for new ones, and probes are answered under
any load. Must not know routes other than the probes.

The standard library's http.server would not make it shorter: it has a timeout for each read but none for a
whole request, takes heads of any size and HTTP/0.9, and needs a thread for each client and a way back to the
event loop in which the routes run.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import orjson

from streamq.errors import UsageError
from streamq.probes.listen import MOST_CLIENTS, Listen

HEAD_LIMIT: Final = 8 * 1024
BODY_LIMIT: Final = 4 * 1024
PATIENCE: Final = 5.0
"""Seconds for a client to send its request, and again to read the response."""
UNIX: Final = "unix"
PROBES: Final = ("/live", "/ready")
"""Paths that are answered for any Host header and under any load."""
_OWN_DOMAINS: Final = (".svc", ".cluster.local", ".local", ".internal")
"""Domains that cannot be registered: no page of another site has a name in them."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request. Header names are lower case. `private`: it came over the unix socket, which only this user
    can open."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    private: bool


@dataclass(frozen=True, slots=True)
class Response:
    """A response. `json` and `text` build one from a value."""

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
"""Routes by method and path. HEAD uses the route of GET."""


@dataclass(slots=True)
class _Client:
    """A connection. silent: its request has not arrived yet, or its response is being sent."""

    task: asyncio.Task[object]
    peer: str
    silent: bool = True


class WebServer:
    """Serve routes in the running event loop, on sockets that are bound already.

    names: host names that are accepted besides addresses and names of the local network.
    """

    def __init__(self, routes: Routes, names: Sequence[str] = ()) -> None:
        self._routes = routes
        self._names = {name.lower() for name in (*names, socket.gethostname(), socket.getfqdn())}
        self._servers: list[asyncio.Server] = []
        self._clients: dict[asyncio.Task[object], _Client] = {}  # oldest first

    async def start(self, sockets: list[socket.socket]) -> None:
        for one in sockets:
            start = asyncio.start_unix_server if one.family == socket.AF_UNIX else asyncio.start_server
            self._servers.append(await start(self._client, sock=one, limit=HEAD_LIMIT))

    async def aclose(self) -> None:
        """Stop listening and close the connections that are left."""
        for server in self._servers:
            server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        if me is None or not self._has_room(peer := _peer(writer)):
            writer.transport.abort()
            return
        client = self._clients[me] = _Client(me, peer)
        try:
            await self._exchange(reader, writer, client)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._clients.pop(me, None)
            writer.close()

    def _has_room(self, peer: str) -> bool:
        """Return whether there is room for a client; False if all others are being answered.

        If there are too many, close the one that has been silent for longest: one of the same peer if that
        has half of the room.
        """
        if len(self._clients) < MOST_CLIENTS:
            return True
        silent = [one for one in self._clients.values() if one.silent and not one.task.cancelling()]
        mine = [one for one in silent if one.peer == peer]
        if silent:
            (mine if len(mine) > MOST_CLIENTS // 2 else silent)[0].task.cancel()
        return len(self._clients) < 2 * MOST_CLIENTS

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: _Client
    ) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                request = await _read(reader, private=client.peer == UNIX)
        except TimeoutError:
            request = Response.text(408, "the request took too long")
        client.silent = False
        response = request if isinstance(request, Response) else await self._admit(request)
        client.silent = True
        writer.write(_packed(response, body=isinstance(request, Response) or request.method != "HEAD"))
        async with asyncio.timeout(PATIENCE):
            await writer.drain()
            writer.write_eof()
            await reader.read(BODY_LIMIT)  # until the client has read it

    async def _admit(self, request: Request) -> Response:
        """Answer a request if its Host is ours and there are not too many others. Probes are always
        answered."""
        if request.path not in PROBES:
            if not self._is_ours(request.headers.get("host", "")):
                return Response.text(421, "the host name is not accepted here: add it with --metrics-name")
            if sum(not one.silent for one in self._clients.values()) > MOST_CLIENTS:
                return Response.text(503, "too many requests: try again")
        return await self._answer(request)

    def _is_ours(self, host: str) -> bool:
        """Return whether a Host header is an address, a name of the local network or one of `names`: no page
        of another site can send these."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if "." not in name or name in self._names or name.endswith(_OWN_DOMAINS):
            return True
        with suppress(ValueError):
            return bool(ipaddress.ip_address(name))
        return False

    async def _answer(self, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        route = self._routes.get((method, request.path))
        if route is None:
            others = [known for known, path in self._routes if path == request.path]
            if others:
                return Response.text(405, f"{request.path} allows {', '.join(others)}")
            paths = " ".join(sorted({path for _, path in self._routes}))
            return Response.text(404, f"not found: use one of {paths}")
        try:
            return await route(request)
        except UsageError as error:
            return Response.text(501, str(error))
        except Exception as error:  # noqa: BLE001 - a broken scrape must not end the server
            from streamq.telemetry.logs import get_logger  # noqa: PLC0415 - rarely needed

            get_logger().exception("web.failed", path=request.path, error=repr(error))
            return Response.text(500, "failed: see the log")


async def _read(reader: asyncio.StreamReader, *, private: bool) -> Request | Response:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return Response.text(431, f"the request's head is larger than {HEAD_LIMIT} bytes")
    first, *lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, protocol = first.split(" ")
        parts = urlsplit(target)
    except ValueError:
        return Response.text(400, "not an HTTP request")
    if not protocol.startswith("HTTP/1."):
        return Response.text(400, "only HTTP/1.1 is supported")
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not length.isascii() or not length.isdigit():
        return Response.text(400, "the body needs a valid Content-Length; Transfer-Encoding is not supported")
    if len(length) > 9 or int(length) > BODY_LIMIT:
        return Response.text(413, f"the body is larger than {BODY_LIMIT} bytes")
    await reader.readexactly(int(length))
    return Request(method, parts.path, dict(parse_qsl(parts.query)), headers, private)


def _peer(writer: asyncio.StreamWriter) -> str:
    """Return the address of a client; "unix" over the unix socket."""
    peer = writer.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else UNIX


def _packed(response: Response, *, body: bool) -> bytes:
    headers = {
        "Content-Type": response.content_type,
        "Content-Length": str(len(response.body)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Connection": "close",
        **response.headers,
    }
    lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (response.body if body else b"")


class WebThread:
    """Run the server in a thread with its own event loop, for a process without one."""

    def __init__(self, listen: Listen, routes: Routes) -> None:
        self._listen, self._routes = listen, routes
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="streamq-web", daemon=True)
        self._sockets: list[socket.socket] = []

    def start(self) -> None:
        """Listen, and start the thread. Raise CannotListen."""
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
        server = WebServer(self._routes, self._listen.names)
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
    """Remove the socket's file."""
    if listen.path is not None:
        with suppress(OSError):
            listen.path.unlink()
