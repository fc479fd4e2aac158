"""What an operator sees of a cluster while one master and its replica are away."""

from __future__ import annotations

from contextlib import closing

import httpx
import pytest
from redis.crc import key_slot

from streamq import StreamQ
from streamq.cli import main
from streamq.dashboard import dashboard
from streamq.keys import APPS, shard_keys
from tests.cli.conftest import Capture, as_json, run
from tests.dashboard.shop import TRUSTED
from tests.topology.clusters import ClusterSet
from tests.topology.conftest import SHARDS
from tests.topology.servers import Node


def filled(app: StreamQ) -> None:
    @app.task
    async def email(n: int) -> None: ...

    app.enqueue_many([email.bind(n) for n in range(4 * SHARDS)])


def owner(cluster: ClusterSet, key: str) -> Node:
    return cluster.owner(key_slot(key.encode()))


def take_away(cluster: ClusterSet, key: str) -> list[int]:
    """The master of a key and whoever could take its place; answers the shards that were there."""
    lost = owner(cluster, key)
    shards = [n for n in range(SHARDS) if owner(cluster, shard_keys("shop", n).types) is lost]
    for node in [*cluster.replicas_of(lost), lost]:
        cluster.kill(node)
    return shards


async def test_what_can_be_reached_is_shown(
    cluster: ClusterSet, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMQ_URL", cluster.url)
    monkeypatch.setattr("streamq.cli.target.PATIENCE", 0.3)
    with closing(StreamQ("shop", cluster.url, shards=SHARDS, patience=0.3)) as app:
        filled(app)
        assert as_json(capsys, "top")["missing_shards"] == []
        for_apps = owner(cluster, APPS)
        lost = next(n for n in range(SHARDS) if owner(cluster, shard_keys("shop", n).types) is not for_apps)
        missing = take_away(cluster, shard_keys("shop", lost).types)
        seen = as_json(capsys, "top")
        assert seen["missing_shards"] == missing
        assert seen["totals"]["ready"] == 4 * (SHARDS - len(missing))
        assert (seen["workers"] is None) == (0 in missing)
        code, out, _ = run(capsys, "top", "--once")
        assert (code, "missing here: the master is unreachable" in out) == (0, True)
        told = as_json(capsys, "stats")
        assert told["missing_shards"] == missing
        assert sum(one["ready"] for one in told["types"]) == seen["totals"]["ready"]
        transport = httpx.ASGITransport(dashboard(app, auth=TRUSTED), client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as browser:
            for path in ("/",):
                page = await browser.get(path)
                assert (page.status_code, "missing here" in page.text) == (200, True), path
            assert (await browser.get("/api/overview")).json()["missing_shards"] == missing
            assert (await browser.get("/api/chart")).status_code == 200
            assert (await browser.get("/api/chart?type=none")).status_code == 404
            for node in cluster.nodes:
                if not node.alive:
                    cluster.restart(node)
            cluster.settled()
            assert (await browser.get("/api/overview")).json()["missing_shards"] == []


def test_an_app_is_shown_when_its_record_is_away(
    cluster: ClusterSet, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMQ_URL", cluster.url)
    monkeypatch.delenv("STREAMQ_APP", raising=False)
    monkeypatch.setattr("streamq.cli.target.PATIENCE", 0.3)
    with closing(StreamQ("shop", cluster.url, shards=SHARDS, patience=5)) as app:
        filled(app)
    missing = take_away(cluster, APPS)
    assert main(["top", "--once"]) == 69
    assert "It has the list of apps: name the app with --app" in capsys.readouterr().err
    seen = as_json(capsys, "top", "--app", "shop")
    # Nobody says how many shards there are: one too many may be told to be missing, and none too few.
    assert set(seen["missing_shards"]) >= set(missing)
    assert len(seen["missing_shards"]) < len(missing) + 8
    assert seen["totals"]["ready"] == 4 * (SHARDS - len(missing))
