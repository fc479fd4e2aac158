"""The small HTTP server against clients that are slow, hostile or plain wrong."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from streamq.errors import CannotListen
from streamq.probes import http_server
from streamq.probes.http_server import Request, Response, WebServer
from streamq.probes.listen import Listen
from tests.running import until


async def hello(request: Request) -> Response:
    return Response.text(200, f"hello {request.query.get('name', 'you')} {request.private}")


async def broken(_request: Request) -> Response:
    raise RuntimeError("no")


@pytest_asyncio.fixture
async def port() -> AsyncIterator[int]:
    server = WebServer({("GET", "/hello"): hello, ("GET", "/broken"): broken, ("POST", "/go"): hello})
    [listening] = Listen(0).sockets()
    await server.start([listening])
    number: int = listening.getsockname()[1]
    yield number
    await server.aclose()


async def say(port: int, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def get(path: str, method: str = "GET", more: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode()


@pytest.mark.parametrize(
    ("sent", "status", "body"),
    [
        (get("/hello?name=Ada"), 200, b"hello Ada False\n"),
        (get("/hello", "HEAD"), 200, b""),
        (get("/go", "POST", "Content-Length: 3\r\n") + b"abc", 200, b"hello you False\n"),
        (get("/nowhere"), 404, b"not found: use one of /broken /go /hello\n"),
        (get("/go"), 405, b"method not allowed: /go takes POST\n"),
        (get("/broken"), 500, b"internal error: see the log\n"),
        (get("/go", "POST", "Content-Length: 999999\r\n"), 413, None),
        (get("/go", "POST", "Content-Length: -1\r\n"), 400, None),
        (get("/go", "POST", "Transfer-Encoding: chunked\r\n"), 400, None),
        (get("/hello", more=f"X: {'y' * 9000}\r\n"), 431, None),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, None),
        (b"GET / SPDY/3\r\n\r\n", 400, None),
        (b"GET http://[ HTTP/1.1\r\n\r\n", 400, None),
    ],
)
async def test_one_request_one_answer(port: int, sent: bytes, status: int, body: bytes | None) -> None:
    head, _, told = (await say(port, sent)).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), head
    assert body is None or told == body


async def test_a_slow_client_is_cut_off_and_others_are_not(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "CLIENT_TIMEOUT", 1.0)
    slow = asyncio.create_task(say(port, b"GET /hello HT"))
    assert (await say(port, get("/hello"))).startswith(b"HTTP/1.1 200")
    assert (await slow).startswith(b"HTTP/1.1 408")


async def test_silent_clients_keep_nobody_out(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MAX_CLIENTS", 4)
    waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]
    for _ in range(10):
        assert (await say(port, get("/hello"))).startswith(b"HTTP/1.1 200")
    for _, writer in waiting:
        writer.close()


async def test_probes_are_answered_however_many_others_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    hold = asyncio.Event()

    async def slow(_request: Request) -> Response:
        await hold.wait()
        return Response.text(200, "done")

    monkeypatch.setattr(http_server, "MAX_CLIENTS", 3)
    server = WebServer({("GET", "/metrics"): slow, ("GET", "/live"): hello})
    [listening] = Listen(0).sockets()
    await server.start([listening])
    number = listening.getsockname()[1]
    asked = [asyncio.create_task(say(number, get("/metrics"))) for _ in range(3)]
    await until(lambda: sum(not one.idle for one in server._clients.values()) == 3)
    assert (await say(number, get("/metrics"))).startswith(b"HTTP/1.1 503")
    assert (await say(number, get("/live"))).startswith(b"HTTP/1.1 200")
    hold.set()
    assert all(one.startswith(b"HTTP/1.1 200") for one in await asyncio.gather(*asked))
    await server.aclose()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9191", 200), ("[::1]", 200), ("10.1.2.3:9191", 200), ("localhost", 200),
        ("daemon:9191", 200),
        ("daemon.prod.svc:9191", 200), ("daemon.prod.svc.cluster.local.", 200), (socket.gethostname(), 200),
        ("queue.example.com", 200), ("Queue.Example.com:1", 200), ("", 200),
        ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("localhost.evil.example:9191", 421),
        ("[", 421), ("svc.evil.example", 421), ("example.com", 421),
    ],
)  # fmt: skip
async def test_a_page_that_rebinds_its_name_reads_nothing(host: str, status: int) -> None:
    server = WebServer({("GET", "/metrics"): hello, ("GET", "/live"): hello}, ["queue.example.com"])
    [listening] = Listen(0).sockets()
    await server.start([listening])
    for path, wanted in (
        ("/metrics", status),
        ("/live", 200),
        ("/nowhere", 404 if status == 200 else status),
    ):
        sent = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        assert (await say(listening.getsockname()[1], sent)).startswith(f"HTTP/1.1 {wanted} ".encode())
    await server.aclose()


async def test_a_client_that_never_reads_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def huge(_request: Request) -> Response:
        return Response(200, b"x" * 50_000_000)

    monkeypatch.setattr(http_server, "CLIENT_TIMEOUT", 0.2)
    server = WebServer({("GET", "/huge"): huge})
    [listening] = Listen(0).sockets()
    await server.start([listening])
    with socket.create_connection(listening.getsockname()) as client:
        client.sendall(get("/huge"))
        await until(lambda: len(server._clients) == 1)
        await until(lambda: not server._clients)
    await server.aclose()


def test_what_cannot_be_listened_on_is_named(tmp_path: object) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CannotListen, match="Choose another --metrics-port"):
            Listen(taken.getsockname()[1]).sockets()
    with pytest.raises(CannotListen, match="cannot listen on no.such.host.invalid"):
        Listen(80, "no.such.host.invalid").sockets()
    with pytest.raises(CannotListen, match="cannot listen on /no/such"):
        Listen(path=__import__("pathlib").Path("/no/such/socket")).sockets()
