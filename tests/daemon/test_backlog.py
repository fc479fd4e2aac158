"""What a daemon tells of more task types than it looks at: that there are, and of no type a part."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
import structlog

from streamq import Daemon, Lane, StreamQ, WorkerOptions
from streamq.calls import question as question_calls
from streamq.calls import rollup as rollup_calls
from streamq.control import scaling
from streamq.daemon.backlog import chosen_types
from streamq.histogram import bucket
from streamq.keys import TypeKeys, type_keys
from streamq.probes.http_server import Request, Response
from streamq.probes.routes import routes
from streamq.telemetry.exposition import render
from tests.running import QUICK, begun, serving, until


def keys(app: str, shards: int, *names: str) -> list[TypeKeys]:
    """As a directory lists them: shard by shard."""
    return [type_keys(app, shard, name) for shard in range(shards) for name in names]


def test_types_are_looked_at_with_all_their_shards_or_not_at_all() -> None:
    listed = keys("shop", 3, "a", "b", "c")
    assert chosen_types(listed, 9) == (listed, 0)
    chosen, left_out = chosen_types(listed, 7)
    assert {(one.type, one.shard) for one in chosen} == {(name, n) for name in "ab" for n in range(3)}
    assert left_out == 1


def test_the_many_types_of_one_app_crowd_out_no_other() -> None:
    listed = [*keys("aaa", 1, *map(str, range(100))), *keys("shop", 1, "email", "sms")]
    chosen, left_out = chosen_types(listed, 10)
    assert {one.type for one in chosen if one.app == "shop"} == {"email", "sms"}
    assert (len(chosen), left_out) == (10, 92)


async def asked(daemon: Daemon, **query: str) -> Response:
    backlog = routes(daemon, knows_queue=True)["GET", "/backlog"]
    return await backlog(Request("GET", "/backlog", query, {}, private=True))


async def test_types_that_are_not_looked_at_are_told_of(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = StreamQ("shop", url)
    for n in range(5):
        await app.asend(f"type{n}")
    monkeypatch.setattr("streamq.daemon.backlog.SCRAPED", 3)
    monkeypatch.setattr("streamq.daemon.backlog.KEPT", 0.0)
    with structlog.testing.capture_logs() as lines:
        daemon = Daemon(app.address, QUICK)
        task = await begun(daemon)
        try:
            await until(lambda: len(daemon._discovery.types()) == 5)
            text = render(await daemon.metrics())[1].decode()
            assert "streamq_queue_more_types 2.0" in text
            assert 'type="type2"' in text
            assert 'type="type3"' not in text
            answers = [
                await asked(daemon),
                await asked(daemon, type="type0"),
                await asked(daemon, type="type4"),
            ]
        finally:
            daemon.stop()
            await task
    assert [answer.status for answer in answers] == [200, 200, 503]
    assert orjson.loads(answers[0].body)["more_types"] == 2
    told = [line for line in lines if line["event"] == "queue.types_left_out"]
    assert [(line["types"], line["log_level"]) for line in told] == [(2, "warning")]
    await app.aclose()


async def test_how_many_workers_a_type_needs(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamq.daemon.backlog.KEPT", 0.0)
    monkeypatch.setattr("streamq.daemon.backlog.PACE_INTERVAL", 0.0)
    app, go = StreamQ("shop", url), asyncio.Event()

    @app.task(within="10s")
    async def work(n: int) -> None:
        if n < 0:
            await go.wait()

    @app.task(lane=Lane("customer", rate="1/h"))
    async def call(customer: str) -> None: ...

    async with serving(app, WorkerOptions(concurrency=4, block=0.5, heartbeat=0.2)):
        daemon = Daemon(app.address, QUICK)
        task = await begun(daemon)
        try:
            await until(lambda: len(daemon._discovery.types()) == 2)

            async def wanted() -> dict[str, Any]:
                found: dict[str, Any] = orjson.loads((await asked(daemon, type="work")).body)
                return found

            assert (await wanted())["desired"] == 0
            await app.aenqueue_many([work.bind(-1) for _ in range(6)])
            await until(lambda: app.inspector.type_stats("work").running >= 4)
            first = await wanted()
            assert (first["types"][0]["desired"], first["desired"]) == (
                1,
                1,
            )  # how long they take is not known
            await app.aenqueue_many([call.bind("ada") for _ in range(10_000)])
            total = orjson.loads((await asked(daemon)).body)
            assert total["parked"] == 9_999
            assert total["desired"] == 1  # who is parked by a rate needs no worker
            text = render(await daemon.metrics())[1].decode()
            assert 'streamq_queue_workers_desired{app="shop",type="work"} 1.0' in text
            go.set()
            await until(lambda: app.inspector.type_stats("work").counters["completed"] == 6)
        finally:
            daemon.stop()
            await task


async def test_the_pace_of_a_type(app: StreamQ) -> None:
    """120 tasks of 2 s each in three minutes."""
    transport, t = app._asyncs.current().transport, type_keys("shop", 0, "work")
    counts = {"accepted": 120, f"run:{bucket(2.0)}": 1000}
    await transport.run(rollup_calls.tally(t, await transport.run(question_calls.now()), counts))
    pace = await app._asyncs.current().drive(scaling.pace([t]))
    assert pace.target == scaling.TARGET
    assert pace.run == pytest.approx(2.0, rel=0.1)
    assert 120 / 180 <= pace.arrivals <= 120 / 120


def test_the_formula() -> None:
    pace = scaling.Pace(arrivals=5.0, run=2.0, target=10.0)
    assert scaling.load(pace, 0, 0, 10, paused=False) == 1.0
    assert scaling.load(pace, 50, 0, 10, paused=False) == 2.0
    assert scaling.load(pace, 50, 0, 10, paused=True) == 0.0
    assert scaling.load(pace, 0, 40, 10, paused=True) == 4.0  # who is busy is not taken away
    idle = scaling.Pace(0.0, 0.0, 60.0)
    assert scaling.desired(scaling.load(idle, 1, 0, 100, paused=False), 1, 0) == 1
    assert scaling.desired(scaling.load(idle, 0, 1, 100, paused=False), 0, 1) == 1
    assert scaling.desired(0.0, 0, 0) == 0
