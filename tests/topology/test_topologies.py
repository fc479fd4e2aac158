"""Everything a task can go through, under Sentinel and on a cluster, with a real worker and daemon."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from redis.exceptions import ResponseError

from streamq import RedisUnavailable, Retry, StreamQ, TaskDead
from streamq.calls import question as question_calls
from streamq.cli import main
from streamq.doctor.examination import examine
from streamq.keys import shard_keys
from streamq.transport import channel_reader, link, sync_link, wire
from streamq.transport.address import Address
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.sync_transport import SyncTransport
from tests.running import clean, serving, until
from tests.topology.clusters import ClusterSet
from tests.topology.conftest import SHARDS, Servers
from tests.topology.sentinels import SentinelSet
from tests.topology.servers import Node


def tasks_of(app: StreamQ) -> dict[str, Any]:
    @app.task(retention=60)
    async def double(n: int) -> int:
        return 2 * n

    @app.task(backoff=lambda _: 0.02)
    async def fails_once(n: int) -> int:
        from streamq import get_context

        if get_context().attempt == 1:
            raise Retry(after=0.02)
        return n

    @app.task(max_attempts=1)
    def broken(n: int) -> None:
        raise ValueError(f"no {n}")

    return {"double": double, "fails_once": fails_once, "broken": broken}


async def test_the_life_of_tasks(app: StreamQ) -> None:
    double, fails_once, broken = tasks_of(app).values()
    async with serving(app):
        handles = [double.enqueue(n) for n in range(SHARDS * 2)]
        handles += await app.aenqueue_many([double.bind(n) for n in range(SHARDS * 2, SHARDS * 20)])
        assert await asyncio.gather(*(h.aresult(10) for h in handles)) == [2 * n for n in range(SHARDS * 20)]
        assert {int(h.id.split(":")[1]) for h in handles} == set(range(SHARDS))
        assert await asyncio.to_thread(handles[0].result, 5) == 0
        delayed = await double.options(delay=0.1).aenqueue(21)
        retried = await fails_once.aenqueue(7)
        cancelled = await double.options(delay="1h").aenqueue(1)
        assert await cancelled.acancel() == "cancelled"
        assert [await delayed.aresult(10), await retried.aresult(10)] == [42, 7]
        assert [await delayed.astatus(), await cancelled.astatus()] == ["completed", "cancelled"]
        dying = await app.aenqueue_many([broken.bind(n) for n in range(SHARDS)])
        for handle in dying:
            with pytest.raises(TaskDead, match="ValueError: no"):
                await handle.aresult(10)
        assert await asyncio.to_thread(lambda: app.admin.requeue([dying[0].id])) == 1
        assert await asyncio.to_thread(app.admin.requeue_type, "broken") >= SHARDS - 1
        await until(lambda: app.inspector.type_stats("broken").dead == SHARDS)
        assert await asyncio.to_thread(app.admin.purge_type, "broken") == SHARDS
        await until(lambda: [w.alive for w in app.inspector.workers()] == [True])
    clean(app)


@pytest.mark.parametrize("waits", ["sync", "async"])
async def test_a_result_is_waited_for_without_polling(
    app: StreamQ, waits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamq.client.waiting.LOOK_AGAIN", 60.0)
    go = asyncio.Event()

    @app.task
    async def work() -> int:
        await go.wait()
        return 5

    async with serving(app):
        handle = await work.aenqueue()
        waiting = asyncio.create_task(
            handle.aresult(50) if waits == "async" else asyncio.to_thread(handle.result, 50)
        )
        await until(lambda: app.inspector.type_stats("work").running == 1)
        go.set()
        assert await asyncio.wait_for(waiting, 20) == 5  # it would look again after a minute


async def test_without_hiredis(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "hiredis", None)
    monkeypatch.setattr(link, "hiredis", None)
    monkeypatch.setattr(sync_link, "hiredis", None)
    monkeypatch.setattr(channel_reader, "hiredis", None)
    app = StreamQ("shop", servers.url, shards=SHARDS)
    double = tasks_of(app)["double"]
    async with serving(app):
        handles = [await double.aenqueue(n) for n in range(SHARDS)] + [double.enqueue(SHARDS)]
        assert [await handle.aresult(10) for handle in handles] == [0, 2, 4, 6]


def test_commands(servers: Servers, app: StreamQ, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*args: str) -> Any:
        code = main([*args, "--url", servers.url])
        out = capsys.readouterr()
        assert code == 0, out.err
        return json.loads(out.out)

    app.enqueue_many([app.bound("email", {"n": n}) for n in range(SHARDS * 2)])
    assert run("enqueue", "email", '{"n": 1}', "--app", "shop", "--json")
    [stats] = run("stats", "--json")["types"]
    assert stats["ready"] == SHARDS * 2 + 1
    assert run("audit", "--json")["problems"] == []
    assert run("dead", "list", "--json")["dead"] == []
    assert run("dead", "groups", "--json")["groups"] == []
    assert len(run("task", "list", "ready", "--json")["tasks"]) == SHARDS * 2 + 1
    assert run("pause", "email", "--json")["changed"] == ["email"]
    seen = run("top", "--json")
    assert (seen["types"][0]["ready"], seen["types"][0]["paused"]["type"]) == (SHARDS * 2 + 1, "email")
    assert (seen["server"]["nodes"] > 1) == ("cluster" in servers.url)
    assert run("workers", "--json")["workers"] == []
    code = main(["bench", "--url", servers.url])
    assert (code, "name one server" in capsys.readouterr().err) == (2, True)


def test_every_node_is_asked(servers: Servers) -> None:
    transport = SyncTransport(Address.parse(servers.url))
    answers = transport.run_on_all_nodes(question_calls.now())
    transport.close()
    assert len(answers) == len(servers.masters())
    assert all(where.endswith(f" of {servers.url}") for where in answers)


def test_the_audit_walks_over_the_keys_of_every_node(servers: Servers, app: StreamQ) -> None:
    """A stray key of the app on each node, and more keys than one step of the walk takes."""
    app.enqueue_many([app.bound("email", {"n": n}) for n in range(SHARDS)])
    masters = servers.masters()
    strays = [stray_key(node) for node in masters]
    for node, stray in zip(masters, strays, strict=True):
        node.command("SET", stray, "x")
        for n in range(1200 // len(masters)):
            node.command("SET", f"other:{stray}:{n}", "x")
    found = app.inspector.audit().problems
    assert {problem.code for problem in found} == {"unknown_key"}
    assert sorted(problem.where for problem in found) == sorted(strays)
    with pytest.raises(RedisUnavailable, match="no longer holds data"):
        app.inspector._transport.run_on_node("nobody", question_calls.now())


def test_the_doctor_looks_at_every_node(cluster: ClusterSet) -> None:
    """Whichever it happens to ask first."""
    sick = cluster.masters()[-1]
    sick.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    transport = SyncTransport(Address.parse(cluster.url))
    try:
        found = [check for check in examine(transport).checks if check.name == "eviction"]
    finally:
        sick.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        transport.close()
    assert "fault" in {check.status for check in found}
    assert len(found) == 2 or found[0].status == "fault"


def stray_key(node: Node) -> str:
    """A key in the app's name that belongs on this node."""
    for n in range(10_000):
        key = f"streamq:{{shop:{n}}}:stray"
        try:
            node.command("EXISTS", key)
        except ResponseError:  # MOVED
            continue
        return key
    raise LookupError(f"no key for {node}")


async def test_ask_is_followed(cluster: ClusterSet) -> None:
    """While a slot moves, what has moved is asked for where it is, and what has not where it was."""
    app = StreamQ("shop", cluster.url)
    app.send("email", {})
    app.send("image", {})
    keys = shard_keys("shop", 0)
    plain, looping = SyncTransport(app.address, patience=0), AsyncTransport(app.address, patience=0)
    from redis.crc import key_slot

    slot = key_slot(keys.types.encode())
    source = cluster.owner(slot)
    target = next(node for node in cluster.masters() if node is not source)
    moved: list[str] = []
    for key in cluster.migration(slot, target):
        moved.append(key)
        assert plain.run(question_calls.types(keys)) == ["email", "image"]
        assert await looping.run(question_calls.types(keys)) == ["email", "image"]
    assert keys.types in moved
    assert (
        plain.run(question_calls.types(keys))
        == await looping.run(question_calls.types(keys))
        == ["email", "image"]
    )
    cluster.migrate_slot(slot, source)
    plain.close()
    await looping.aclose()


@pytest.mark.parametrize("form", ["sentinel", "cluster"])
def test_wrong_urls_of_real_servers(
    form: str, sentinels: SentinelSet, cluster: ClusterSet, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is said where the URL's form, or the master's name, is not what the servers are."""
    wrong = {
        "sentinel": [
            (sentinels.url.replace("mymaster", "other"), "knows no master named 'other'"),
            (
                f"redis+cluster://{sentinels.master().address}",
                "not a node of a cluster: write its URL without",
            ),
        ],
        "cluster": [(f"redis://{cluster.nodes[0].address}", "Write its URL with +cluster")],
    }
    for url, said in wrong[form]:
        codes = [main(["stats", "--url", url, "--app", app]) for app in ("a", "b", "c", "d")]
        assert said in capsys.readouterr().err
        assert 1 in codes
