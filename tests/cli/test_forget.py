"""Task types are forgotten when nothing of them is left, and only then."""

from __future__ import annotations

import orjson
import pytest

from streamq import StreamQ, UnknownTaskType, UsageError
from streamq.calls import producer as producer_calls
from streamq.model.outcome import Completed
from streamq.model.task import NewTask
from tests.cli.conftest import Capture, as_json, bury, run
from tests.conftest import command
from tests.lua.shard import Shard


def keys(shard: Shard) -> set[str]:
    """What there is of the type, but for what its writers' last calls were."""
    found = shard.command("KEYS", f"{shard.t.base}:*")
    return {key.decode().removeprefix(f"{shard.t.base}:") for key in found if b":writer:" not in key}


def finish(shard: Shard, retention_ms: int = 0) -> None:
    shard.settle(shard.fetch(), Completed(b"1", retention_ms))


def test_a_type_that_holds_nothing_is_forgotten_in_every_shard(shard: Shard, url: str) -> None:
    app = StreamQ("shop", url, shards=3)
    for n in range(12):
        app.send("sms", {"n": n}, shard_key=str(n))
    command(url, "SADD", "streamq:{shop:2}:types", "email")
    finish(shard)
    app.admin.pause("email", "no more of it")
    app.admin.forget("email")
    assert app.inspector.types() == ["sms"]
    assert keys(shard) == set()
    assert app.inspector.paused() == {}
    assert app.inspector.actions(1)[0].verb == "forget"
    assert app.inspector.audit().ok
    with pytest.raises(UnknownTaskType):
        app.admin.forget("email")
    app.close()


@pytest.mark.parametrize("state", ["ready", "running", "scheduled", "dead"])
def test_what_holds_tasks_is_not_forgotten(capsys: Capture, shard: Shard, state: str) -> None:
    if state == "running":
        shard.fetch()
    elif state == "dead":
        bury(shard)
    elif state == "scheduled":
        finish(shard)
        shard.put(delay_ms=60_000)
    before = keys(shard)
    code, _, err = run(capsys, "forget", "email", "--results", "--yes")
    assert code == 2
    assert f"1 {state}" in err
    assert keys(shard) == before
    assert as_json(capsys, "stats")["types"][0]["type"] == "email"


def test_kept_results_go_only_where_that_is_said(capsys: Capture, shard: Shard) -> None:
    finish(shard, 60_000)
    code, _, err = run(capsys, "forget", "email", "--yes")
    assert (code, "results of it are kept" in err) == (2, True)
    assert run(capsys, "forget", "email")[0] == 1  # nobody can be asked
    assert run(capsys, "forget", "email", "--results", "--yes")[:2] == (0, "forgot email\n")
    assert keys(shard) == set()


def test_what_a_worker_serves_is_not_forgotten(shard: Shard, url: str) -> None:
    app = StreamQ("shop", url)
    finish(shard)
    now = app.inspector.now_ms()
    command(url, "ZADD", shard.s.workers, now, "w1")
    command(url, "HSET", shard.s.heartbeats, "w1", orjson.dumps({"types": ["email"]}))
    with pytest.raises(UsageError, match="worker w1 serves it"):
        app.admin.forget("email")
    command(url, "ZADD", shard.s.workers, now - 120_000, "w1")
    app.admin.forget("email")
    app.close()


@pytest.mark.parametrize("delay_ms", [None, 60_000])
def test_a_producer_that_knew_the_type_makes_it_known_again(
    shard: Shard, url: str, delay_ms: int | None
) -> None:
    """Its calls do not list the type each time: daemons would never hear of its delayed tasks."""
    app = StreamQ("shop", url)
    shard.put()
    finish(shard)
    app.admin.forget("email")
    assert app.inspector.types() == []
    shard.enqueue(NewTask(b"{}", "normal", delay_ms))
    assert app.inspector.types() == ["email"]
    assert app.inspector.audit().ok
    app.close()


def test_a_completed_task_whose_result_was_not_kept_says_so(capsys: Capture, shard: Shard) -> None:
    local = shard.put()
    shard.run(producer_calls.wait(shard.t, local, 60_000))  # somebody waits for it: its end is remembered
    finish(shard)
    _, out, _ = run(capsys, "task", "show", f"email:0:{local}")
    assert "state   completed" in out
    assert "result  not kept" in out
