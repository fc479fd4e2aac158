"""A small HTTP server for probes and scrapes, on a TCP port or a unix socket.

Owns the connection: one request, one response, bounded in size, time and number, so that a slow or hostile
client costs only its own connection. Idle clients are dropped to make room for new ones, and probes are
answered regardless of the load. Must not know any other route by name: routes are passed in.

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
from streamq.probes.listen import MAX_CLIENTS, Listen

HEAD_LIMIT: Final = 8 * 1024
BODY_LIMIT: Final = 4 * 1024
CLIENT_TIMEOUT: Final = 5.0
"""Seconds for a client to send its request, and again to read the response."""
UNIX: Final = "unix"
PROBES: Final = ("/live", "/ready")
"""Answered for any Host header and under any load."""
_OWN_DOMAINS: Final = (".svc", ".cluster.local", ".local", ".internal")
"""Domains that cannot be registered: a page of another site cannot have a name in them."""


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request. `private`: it came over the unix socket, which only this user can open. Header names
    are lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    private: bool


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, status: int, value: object) -> Response:
        """Return a response whose body is the value as JSON."""
        return cls(status, orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE), "application/json")

    @classmethod
    def text(cls, status: int, text: str) -> Response:
        """Return a response whose body is a line of text."""
        return cls(status, f"{text}\n".encode())


Route = Callable[[Request], Awaitable[Response]]
Routes = Mapping[tuple[str, str], Route]
"""Routes by method and path. HEAD uses the route of GET."""


@dataclass(slots=True)
class _Client:
    """A connection. idle: its request has not arrived yet, or its response is being sent."""

    task: asyncio.Task[object]
    peer: str
    idle: bool = True


class WebServer:
    """Serves routes in the running event loop, on sockets that are already bound.

    names: host names to accept, beside addresses and names of the local network.
    """

    def __init__(self, routes: Routes, names: Sequence[str] = ()) -> None:
        self._routes = routes
        self._names = {name.lower() for name in (*names, socket.gethostname(), socket.getfqdn())}
        self._servers: list[asyncio.Server] = []
        self._clients: dict[asyncio.Task[object], _Client] = {}  # oldest first

    async def start(self, sockets: list[socket.socket]) -> None:
        """Accept connections on bound sockets."""
        for bound in sockets:
            start = asyncio.start_unix_server if bound.family == socket.AF_UNIX else asyncio.start_server
            self._servers.append(await start(self._client, sock=bound, limit=HEAD_LIMIT))

    async def aclose(self) -> None:
        """Stop listening and close the open connections."""
        for server in self._servers:
            server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or not self._has_room(peer := _peer(writer)):
            writer.transport.abort()
            return
        client = self._clients[task] = _Client(task, peer)
        try:
            await self._exchange(reader, writer, client)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._clients.pop(task, None)
            writer.close()

    def _has_room(self, peer: str) -> bool:
        """Drop the longest-idle client if there are too many: one of the same peer if that peer holds more
        than half of the connections. Return False if there is still no room."""
        if len(self._clients) < MAX_CLIENTS:
            return True
        idle = [client for client in self._clients.values() if client.idle and not client.task.cancelling()]
        same_peer = [client for client in idle if client.peer == peer]
        if idle:
            (same_peer if len(same_peer) > MAX_CLIENTS // 2 else idle)[0].task.cancel()
        return len(self._clients) < 2 * MAX_CLIENTS

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: _Client
    ) -> None:
        try:
            async with asyncio.timeout(CLIENT_TIMEOUT):
                request = await _read_request(reader, private=client.peer == UNIX)
        except TimeoutError:
            request = Response.text(408, f"request timed out: it did not arrive within {CLIENT_TIMEOUT:g} s")
        client.idle = False
        response = request if isinstance(request, Response) else await self._admit(request)
        client.idle = True
        writer.write(_encode(response, body=isinstance(request, Response) or request.method != "HEAD"))
        async with asyncio.timeout(CLIENT_TIMEOUT):
            await writer.drain()
            writer.write_eof()
            await reader.read(BODY_LIMIT)  # until the client has read the response

    async def _admit(self, request: Request) -> Response:
        """Handle a request if its Host is accepted and the server is not overloaded; a probe always."""
        if request.path not in PROBES:
            if not self._is_own_name(request.headers.get("host", "")):
                return Response.text(421, "unknown host name: allow it with --metrics-name")
            if sum(not client.idle for client in self._clients.values()) > MAX_CLIENTS:
                return Response.text(503, f"more than {MAX_CLIENTS} requests at once: try again")
        return await self._handle(request)

    def _is_own_name(self, host: str) -> bool:
        """Return whether a Host header names this server: a page of another site can send neither an address
        nor a name that only the local network knows."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if "." not in name or name in self._names or name.endswith(_OWN_DOMAINS):
            return True
        with suppress(ValueError):
            return bool(ipaddress.ip_address(name))
        return False

    async def _handle(self, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        route = self._routes.get((method, request.path))
        if route is None:
            others = [known for known, path in self._routes if path == request.path]
            if others:
                return Response.text(405, f"method not allowed: {request.path} takes {', '.join(others)}")
            paths = " ".join(sorted({path for _, path in self._routes}))
            return Response.text(404, f"not found: use one of {paths}")
        try:
            return await route(request)
        except UsageError as error:
            return Response.text(501, str(error))
        except Exception as error:  # noqa: BLE001 - a broken scrape must not end the server
            from streamq.telemetry.logs import get_logger  # noqa: PLC0415 - rarely needed

            get_logger().exception("web.failed", path=request.path, error=repr(error))
            return Response.text(500, "internal error: see the log")


async def _read_request(reader: asyncio.StreamReader, *, private: bool) -> Request | Response:
    """Return the request, or the response to one that is malformed or too large."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return Response.text(431, f"headers too large: at most {HEAD_LIMIT} bytes")
    first, *lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, protocol = first.split(" ")
        parts = urlsplit(target)
    except ValueError:
        return Response.text(400, "malformed HTTP request")
    if not protocol.startswith("HTTP/1."):
        return Response.text(400, "only HTTP/1.1 is supported")
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not length.isascii() or not length.isdigit():
        return Response.text(400, "unsupported body: send it with a Content-Length")
    if len(length) > 9 or int(length) > BODY_LIMIT:
        return Response.text(413, f"body too large: at most {BODY_LIMIT} bytes")
    await reader.readexactly(int(length))
    return Request(method, parts.path, dict(parse_qsl(parts.query)), headers, private)


def _peer(writer: asyncio.StreamWriter) -> str:
    """Return the client's address; "unix" for the unix socket."""
    peer = writer.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else UNIX


def _encode(response: Response, *, body: bool) -> bytes:
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
    """Runs a WebServer in a thread with its own event loop, for a process that has none."""

    def __init__(self, listen: Listen, routes: Routes) -> None:
        self._listen, self._routes = listen, routes
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="streamq-web", daemon=True)
        self._sockets: list[socket.socket] = []

    def start(self) -> None:
        """Bind the sockets and serve. Raise CannotListen if a socket cannot be bound."""
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
        """Stop the server and wait for its thread. Safe to call if it was never started."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(CLIENT_TIMEOUT)
        elif not self._loop.is_closed():
            self._loop.close()
        unlink(self._listen)


def unlink(listen: Listen) -> None:
    """Remove the file of the unix socket."""
    if listen.path is not None:
        with suppress(OSError):
            listen.path.unlink()
