"""Thousands of task types, as a mistyped `send` makes them: an overview's cost has a bound, and says so."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from streamq import StreamQ
from streamq.cli import target
from streamq.cli.layout import plain
from streamq.cli.overview import Watch
from streamq.cli.top import page
from streamq.control.inspector import Inspector
from streamq.control.overview import GLANCE
from tests.cli.conftest import Capture, as_json, run
from tests.conftest import command
from tests.lua.shard import Shard

TYPES = 3000


@pytest.fixture
def many(shard: Shard, url: str) -> Shard:
    """A worker serves two types that are last by their names."""
    for n in range(0, TYPES, 500):
        command(url, "SADD", "streamq:{shop:0}:types", *(f"slip{m:04}" for m in range(n, n + 500)))
    command(url, "SADD", "streamq:{shop:0}:types", "zebra", "zoo")
    app = StreamQ("shop", url)
    command(url, "ZADD", shard.s.workers, app.inspector.now_ms() + 600_000, "w1")
    command(url, "HSET", shard.s.heartbeats, "w1", orjson.dumps({"types": ["zebra", "zoo", 5]}))
    app.close()
    return shard


def asked(shard: Shard) -> int:
    """How many scripts the server has run."""
    told = shard.command("INFO", "commandstats").decode()
    found = [line for line in told.splitlines() if line.startswith("cmdstat_eval")]
    return sum(int(line.partition("calls=")[2].partition(",")[0]) for line in found)


def test_stats(capsys: Capture, many: Shard) -> None:
    before = asked(many)
    found = as_json(capsys, "stats")
    assert asked(many) - before <= GLANCE + 10
    names = [one["type"] for one in found["types"]]
    assert (len(names), found["more_types"]) == (GLANCE, TYPES + 3 - GLANCE)
    assert {"zebra", "zoo"} <= set(names)
    assert names == sorted(names)
    assert "2,003 more task types are not shown" in run(capsys, "stats")[2]
    before = asked(many)
    assert [one["type"] for one in as_json(capsys, "stats", "slip2999")["types"]] == ["slip2999"]
    assert asked(many) - before < 10
    assert len(as_json(capsys, "stats", "--all")["types"]) == TYPES + 3


def test_top(capsys: Capture, many: Shard) -> None:
    found: dict[str, Any] = as_json(capsys, "top")
    assert (len(found["types"]), found["more_types"]) == (GLANCE, TYPES + 3 - GLANCE)
    seen = Watch(target.Target(many.transport, "shop", None, "")).read()
    assert any("2,003 more task types are not shown" in line for line in plain(page(seen)))


def test_shards_share_the_bound(many: Shard) -> None:
    inspector = Inspector(many.transport, "shop")
    types, more = inspector.glance(40)
    assert (len(types), more) == (40, TYPES + 3 - 40)
    assert {"zebra", "zoo"} <= set(types)
    assert len(Inspector(many.transport, "shop", 4).glance(400)[0]) == 100
