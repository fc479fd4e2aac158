"""Results where the server lets nobody subscribe: who waits asks, not too often, and is told once why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from streamq import ResultTimeout, StreamQ
from streamq.client import waiting
from streamq.embedded import EmbeddedServer
from tests.client.proxy import Proxy
from tests.conftest import command
from tests.ports import free_port
from tests.running import until, working


@pytest.fixture(autouse=True)
def _nothing_said() -> None:
    waiting._LOGGED.clear()


@pytest.fixture
def mute() -> Iterator[str]:
    """The URL of a user who may not subscribe."""
    with EmbeddedServer(port=free_port()) as server:
        command(server.url, "ACL", "SETUSER", "w", "on", ">w", "~*", "&*", "+@all", "-subscribe")
        yield server.url.replace("//", "//w:w@")


def shop(url: str) -> StreamQ:
    app = StreamQ("shop", url)

    @app.task
    async def work(n: int) -> int:
        return n

    return app


async def results(app: StreamQ, way: str, number: int) -> list[int]:
    handles = [await app.asend("work", {"n": n}) for n in range(number)]

    async def result(handle: Any) -> int:
        if way == "async":
            return int(await handle.aresult(20))
        return int(await asyncio.to_thread(handle.result, 20))

    return await asyncio.gather(*map(result, handles))


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_result_is_asked_for_where_nobody_may_subscribe(
    mute: str, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = shop(mute)
    wf = app.flow("one")
    wf.add(app.bound("work", {"n": 7}))
    flow = await wf.astart()
    of_flow = asyncio.create_task(flow.aresult(20) if way == "async" else asyncio.to_thread(flow.result, 20))
    asking = asyncio.create_task(results(app, way, 5))
    await asyncio.sleep(0.2)  # they wait by now, or begin to when there is a worker
    async with working(app):
        assert await asking == list(range(5))
        assert await of_flow == 7
        assert await results(app, way, 5) == list(range(5))
    assert "".join(capsys.readouterr()).count("result.polled") == 1
    await app.aclose()


async def test_a_proxy_that_hangs_up_at_a_subscription(proxy: Proxy) -> None:
    proxy.lose_reply_to(b"SUBSCRIBE", 10**9)
    app = shop(proxy.url)
    direct = shop(f"redis://127.0.0.1:{proxy._target[1]}/0")
    asking = asyncio.create_task(results(app, "async", 5))
    await until(lambda: app._asyncs.current().waiting._listener.refused is not None, 30)
    async with working(direct):
        assert await asking == list(range(5))
    await app.aclose()


async def test_who_asks_does_so_at_a_bounded_rate_and_within_the_deadline(mute: str) -> None:
    app = shop(mute)
    handles = [await app.asend("work", {"n": n}) for n in range(300)]

    def asked() -> int:
        stats = bytes(command(mute, "INFO", "commandstats"))  # type: ignore[call-overload]
        row = next(row for row in stats.split() if row.startswith(b"cmdstat_evalsha:"))
        return int(row.split(b"calls=")[1].split(b",")[0])

    before, began = asked(), time.monotonic()
    ends = await asyncio.gather(*(handle.aresult(2) for handle in handles), return_exceptions=True)
    seconds = time.monotonic() - began
    assert all(isinstance(end, ResultTimeout) for end in ends)
    # Each looks when it begins, when it learns that it is not told, and at the end.
    assert asked() - before <= 3 * 300 + waiting.POLLS * seconds + 300
    assert seconds < 10
    await app.aclose()
