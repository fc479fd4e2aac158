"""What clients of the dashboard's own server can hold: they cannot keep others out."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from streamq.dashboard.connections import Connections, protocol_class
from tests.running import until


@asynccontextmanager
async def served(connections: Connections, hold: asyncio.Event) -> AsyncGenerator[int]:
    async def quick(_: Request) -> Response:
        return PlainTextResponse("quick")

    async def slow(_: Request) -> Response:
        await hold.wait()
        return PlainTextResponse("slow")

    app = Starlette(
        routes=[Route("/quick", quick), Route("/slow", slow), Route("/post", quick, methods=["POST"])]
    )
    config = uvicorn.Config(app, http=protocol_class(connections), lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        await until(lambda: server.started)
        yield listening.getsockname()[1]
        hold.set()
        server.should_exit = True
        await serving


async def ask(
    port: int, sent: bytes = b"GET /quick HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_silent_clients_make_room_and_busy_ones_stay() -> None:
    hold = asyncio.Event()
    connections = Connections(most=20, most_silent=1000)
    async with served(connections, hold) as port:
        busy = asyncio.create_task(ask(port, b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
        await until(lambda: connections.peers().total() == 1)
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
        assert b"quick" in await ask(port)
        await until(lambda: connections.peers().total() <= 20)
        hold.set()
        assert b"slow" in await busy
        for _, writer in silent:
            writer.close()


async def test_one_peer_can_be_silent_only_so_often() -> None:
    connections = Connections(most=1000, most_silent=3)
    async with served(connections, asyncio.Event()) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
        await until(lambda: connections.peers().total() <= 4)
        assert b"quick" in await ask(port)
        for _, writer in silent:
            writer.close()


async def test_clients_that_dawdle_are_cut_off() -> None:
    connections = Connections(patience=0.1)
    async with served(connections, asyncio.Event()) as port:
        for sent in (
            b"",
            b"GET /quick HT",
            b"POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nabc",
        ):
            answered = await asyncio.wait_for(ask(port, sent), 10)
            assert b"quick" in answered or not answered
        await until(lambda: not connections.peers())
