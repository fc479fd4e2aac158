"""Servers and apps for the tests.

Every test process starts its own servers on unix sockets: the embedded Valkey, and Redis where its
binary is on the PATH. Each test starts with an empty server and must leave no key without a home.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator, MutableSet
from pathlib import Path

import pytest
import pytest_asyncio
import structlog
from hypothesis import settings

from streamq import StreamQ, blocking
from streamq.app import app as queue
from streamq.calls.call import Call
from streamq.embedded import EmbeddedServer
from streamq.telemetry import logs
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.client.proxy import Proxy
from tests.ports import free_port

REDIS = shutil.which("redis-server")

# Processes under test buffer their output, as most users' do: what cannot be written shows at their end.
os.environ.pop("PYTHONUNBUFFERED", None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell has started the tests in the background: commands under test would be deaf to Ctrl-C as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("streamq", deadline=None)
settings.load_profile("streamq")


@pytest.fixture(autouse=True)
def _may_look(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests look at the queue from their own event loop: they have nobody to hold up but themselves."""
    if "loops_are_guarded" not in request.fixturenames:
        monkeypatch.setattr(blocking, "loop_runs", lambda: False)


@pytest.fixture
def loops_are_guarded() -> None:
    """Plain calls are refused where an event loop runs, as they are for users."""


def _start(binary: Path | None) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(binary=binary) as server:
        yield server


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """A command that is run in the test's own process sets the log up: the next test must not inherit it."""
    yield
    structlog.reset_defaults()
    logs._SETTINGS.clear()


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedServer]:
    yield from _start(None)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedServer]:
    if REDIS is None:
        pytest.skip("no redis-server on the PATH")
    yield from _start(Path(REDIS))


@pytest.fixture(params=["valkey", "redis"])
def any_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty server of each kind: for everything that is Lua."""
    name = "valkey" if request.param == "valkey" else "redis_server"
    server: EmbeddedServer = request.getfixturevalue(name)
    yield from _emptied(server.url)


@pytest.fixture
def url(valkey: EmbeddedServer) -> Iterator[str]:
    """An empty Valkey."""
    yield from _emptied(valkey.url)


@pytest.fixture(scope="module")
def tcp() -> Iterator[tuple[EmbeddedServer, int]]:
    """A Valkey on a port, for what stands between a client and its server."""
    port = free_port()
    with EmbeddedServer(port=port) as server:
        yield server, port


@pytest.fixture
def proxy(tcp: tuple[EmbeddedServer, int]) -> Iterator[Proxy]:
    """A network that can fail in front of an empty Valkey."""
    command(tcp[0].url, "FLUSHALL")
    found = Proxy(tcp[1])
    yield found
    found.close()


def _emptied(url: str) -> Iterator[str]:
    transport = SyncTransport(Address.parse(url))
    try:
        for words in (("FLUSHALL",), ("CONFIG", "SET", "maxmemory", "0")):
            transport.run(Call(None, (), words, lambda reply: reply))
    finally:
        transport.close()
    yield url


def command(url: str, *args: str | int | bytes) -> object:
    """Run one command on a server."""
    transport = SyncTransport(Address.parse(url))
    try:
        return transport.run(Call(None, (), args, lambda reply: reply))
    finally:
        transport.close()


@pytest.fixture
def transport(any_url: str) -> Iterator[SyncTransport]:
    found = SyncTransport(Address.parse(any_url))
    yield found
    found.close()


@pytest.fixture
def app(url: str) -> Iterator[StreamQ]:
    found = StreamQ("shop", url)
    yield found
    found.close()


@pytest.fixture(autouse=True)
def closed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every app that a test makes is closed, in the test's event loop if it has one."""
    made: set[StreamQ] = set()
    monkeypatch.setattr(queue, "_APPS", made)
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("closed_in_the_loop")
    yield
    if made:
        asyncio.run(_close(made))


@pytest_asyncio.fixture
async def closed_in_the_loop() -> AsyncIterator[None]:
    """An event loop costs a millisecond: a plain test needs none unless it leaves an app."""
    yield
    await _close(queue._APPS)


async def _close(made: MutableSet[StreamQ]) -> None:
    while made:
        await made.pop().aclose()
