"""What a daemon tells of more task types than it looks at: that there are, and of no type a part."""

from __future__ import annotations

import orjson
import pytest
import structlog

from streamq import Daemon, StreamQ
from streamq.daemon.backlog import chosen_types
from streamq.keys import TypeKeys, type_keys
from streamq.probes.http_server import Request, Response
from streamq.probes.routes import routes
from streamq.telemetry.exposition import render
from tests.running import QUICK, begun, until


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
