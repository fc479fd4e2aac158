"""Commands of an operator: show, list, cancel, run now, pause, resume, drain."""

from __future__ import annotations

import re

import pytest

from streamq import StreamQ, Unique, envelope, stored_result
from streamq.calls import listing as listing_calls
from streamq.calls import worker as worker_calls
from streamq.model.outcome import Completed, Died
from tests.cli.conftest import Capture, as_json, bury, run
from tests.lua.shard import Shard

GONE = "email:0:n1-0"


def later(capsys: Capture, number: int = 1) -> list[str]:
    """Tasks of the morrow."""
    args = ("enqueue", "email", '{"to":"ada"}', "--delay", "1d")
    return [as_json(capsys, *args)["ids"][0] for _ in range(number)]


def test_show_one_task(capsys: Capture, shard: Shard) -> None:
    [task] = later(capsys)
    shown = as_json(capsys, "task", "show", task)
    assert (shown["state"], shown["payload"]) == ("scheduled", {"to": "ada"})
    assert "scheduled" in run(capsys, "task", "show", task)[1]


def test_cancel_tasks(capsys: Capture, shard: Shard) -> None:
    one, two, three = later(capsys, 3)
    assert run(capsys, "cancel", one)[:2] == (0, f"{one}: cancelled\n")
    assert as_json(capsys, "cancel", two, two) == {
        "app": "shop", "tasks": [{"id": two, "answer": "cancelled", "state": "cancelled"}],
    }  # fmt: skip
    said = f"{one}: cancelled\n{three}: cancelled\n"  # a second call returns the same
    assert run(capsys, "cancel", one, three) == (0, said, "")
    code, _, err = run(capsys, "cancel", one, GONE)
    assert (code, f"unknown task {GONE}" in err) == (3, True)
    [delivery] = shard.fetch()
    assert run(capsys, "cancel", f"email:0:{delivery.local}")[1].endswith("its worker was asked to stop it\n")


def test_a_wrong_id_among_right_ones_changes_nothing(capsys: Capture, shard: Shard) -> None:
    [task] = later(capsys)
    for command in ("cancel", "run-now"):
        code, out, err = run(capsys, command, task, "nonsense")
        assert (code, out, "'nonsense' is not a task id" in err) == (2, "", True)
    assert shard.snapshot().scheduled == 1


def test_run_scheduled_tasks_now(capsys: Capture, shard: Shard) -> None:
    one, two = later(capsys, 2)
    assert run(capsys, "run-now", one)[:2] == (0, f"{one} is ready\n")
    assert as_json(capsys, "run-now", two) == {"app": "shop", "ready": [two], "not_scheduled": {}}
    code, _, err = run(capsys, "run-now", one)
    assert (code, err) == (1, f"streamq: task {one} is not scheduled: it is ready\n")
    assert run(capsys, "run-now", one, GONE)[0] == 3
    assert (shard.snapshot().ready, shard.snapshot().scheduled) == (3, 0)


def test_give_a_task_a_signal(capsys: Capture, shard: Shard) -> None:
    [task] = later(capsys)
    assert run(capsys, "task", "signal", task, "approved", '{"by":"ada"}')[:2] == (
        0, f"{task}: the signal 'approved' is kept until it waits for it\n",
    )  # fmt: skip
    assert as_json(capsys, "task", "signal", task, "approved")["answer"] == "stored"
    assert as_json(capsys, "task", "show", task)["mailbox"] == {"approved": 2}
    assert "2 not taken" in run(capsys, "task", "show", task)[1]
    code, _, err = run(capsys, "task", "signal", task, "approved", "yes")
    assert (code, "is not JSON" in err) == (2, True)
    assert run(capsys, "task", "signal", GONE, "approved")[0] == 3
    run(capsys, "cancel", task)
    code, _, err = run(capsys, "task", "signal", task, "approved")
    assert (code, err) == (1, f"streamq: too late: task {task} is cancelled\n")


def test_locks_are_listed_and_freed(capsys: Capture, shard: Shard) -> None:
    app = StreamQ("shop")
    first = app.send("email", {"n": 1}, unique="acme").id
    then = app.send("email", {"n": 2}, unique=Unique(on_conflict="after")).id
    [one, two] = sorted(as_json(capsys, "unique", "email")["locks"], key=lambda lock: lock["holder"] != first)
    assert (one["holder"], one["state"], one["follows"], two["holder"]) == (first, "ready", "", then)
    follows = app.bound("email", {"n": 3}, unique="acme")
    follows.task = follows.task._replace(joins=follows.task.joins.replace('"return"', '"after"'))
    [handle] = app.enqueue_many([follows])
    assert handle.id in run(capsys, "unique", "email")[1]
    assert f"held by {first}" in " ".join(run(capsys, "task", handle.id)[1].split())
    assert "this task" in run(capsys, "task", first)[1]
    assert "after another" in run(capsys, "task", "list", "scheduled")[1]
    code, _, err = run(capsys, "run-now", handle.id)
    assert (code, "waits for the end of the task that holds its unique key" in err) == (1, True)
    code, _, err = run(capsys, "unlock", "email", one["key"])
    assert (code, first in err, "--force frees it" in err) == (1, True, True)
    code, out, _ = run(capsys, "unlock", "email", one["key"], "--force")
    assert (code, first in out) == (0, True)
    assert app.handle(handle.id).status() == "ready"
    assert run(capsys, "unlock", "email", "0" * 32)[0] == 3
    assert run(capsys, "unlock", "email", "no such key")[0] == 3
    assert run(capsys, "unlock", "email", "x" * 201)[0] == 2
    assert run(capsys, "unique", "nothing")[0] == 3
    assert [one.verb for one in app.inspector.actions()] == ["unlock"]


def test_one_lock_is_shown_and_freed_by_the_text_of_its_key(capsys: Capture, shard: Shard) -> None:
    first = StreamQ("shop").send("email", {"n": 1}, unique="acme").id
    one = as_json(capsys, "unique", "email", "acme")["lock"]
    assert (one["holder"], one["state"], one["follows"]) == (first, "ready", "")
    assert shard.now() - 60_000 < one["since_ms"] <= shard.now()
    assert as_json(capsys, "unique", "email")["locks"] == [one]
    assert as_json(capsys, "unique", "email", one["key"])["lock"] == one
    out = run(capsys, "unique", "email", "acme")[1]
    assert first in out
    assert "held for" in out
    code, _, err = run(capsys, "unique", "email", "zeta")
    assert (code, "no task holds the key 'zeta'" in err) == (3, True)
    assert run(capsys, "unlock", "email", "acme", "--force", "--reason", "it hangs")[0] == 0
    [action] = StreamQ("shop").inspector.actions()
    assert action.what == f"email: key 'acme', held by {first}"
    assert run(capsys, "unique", "email", "acme")[0] == 3


def test_pause_and_resume(capsys: Capture, shard: Shard) -> None:
    StreamQ("shop").send("sms")
    code, out, _ = run(capsys, "pause", "email", "sms", "--reason", "the relay is down")
    assert (code, out) == (0, "paused email\npaused sms\n")
    assert as_json(capsys, "pause", "email") == {"app": "shop", "paused": ["email"], "changed": []}
    types = {one["type"]: one["paused"] for one in as_json(capsys, "stats")["types"]}
    assert types["sms"]["reason"] == "the relay is down"
    assert "email is paused by " in run(capsys, "stats")[2]
    assert run(capsys, "resume", "email")[1] == "resumed email\n"
    assert run(capsys, "resume", "email")[1] == "email was not paused\n"
    assert as_json(capsys, "resume", "sms")["changed"] == ["sms"]
    assert shard.run(listing_calls.paused(shard.s)) == {}


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_of_task_types_all_are_known_or_none_is_touched(capsys: Capture, shard: Shard, command: str) -> None:
    code, out, err = run(capsys, command, "email", "emial")
    assert (code, out) == (3, "")
    assert "app 'shop' has no task type 'emial'; did you mean 'email'?" in err
    assert shard.run(listing_calls.paused(shard.s)) == {}


def test_drain_a_worker(capsys: Capture, shard: Shard) -> None:
    shard.run(worker_calls.beat(shard.s, "w1", b"{}"))
    assert run(capsys, "drain", "w1")[:2] == (0, "w1 was asked to drain\n")
    code, out, err = run(capsys, "drain", "w1", "w2", "--json")
    assert (code, '"not_found": [' in out) == (3, True)
    assert "unknown worker 'w2': `streamq workers` lists the names" in err
    assert shard.run(worker_calls.orders(shard.s, "w1")).drain


def test_list_tasks_in_a_state(capsys: Capture, shard: Shard) -> None:
    ids = later(capsys, 3)
    listed = as_json(capsys, "task", "list", "scheduled")
    assert [one["id"] for one in listed["tasks"]] == ids
    assert listed["tasks"][0]["payload"] == '{"to":"ada"}'
    assert len(as_json(capsys, "task", "list", "scheduled", "email", "--limit", "2")["tasks"]) == 2
    assert len(as_json(capsys, "task", "list", "ready")["tasks"]) == 1
    assert as_json(capsys, "task", "list", "ready", "--older-than", "1h")["tasks"] == []
    code, out, _ = run(capsys, "task", "list", "scheduled")
    assert (code, out.splitlines()[0].split()) == (
        0,
        ["ID", "PRIORITY", "DUE", "IN", "FAILED", "WORKER", "PAYLOAD"],
    )
    assert run(capsys, "task", "list", "completed")[2] == "no completed tasks\n"
    assert run(capsys, "task", "list", "ready", "emial")[0] == 3
    code, _, err = run(capsys, "task", "list", "ready", "--older-than", "2h", "--newer-than", "1h")
    assert (code, "nothing is older than 2h and newer than 1h" in err) == (2, True)


def test_a_completed_task_tells_of_its_attempt(capsys: Capture, shard: Shard) -> None:
    [delivery] = shard.fetch()
    task = f"email:0:{delivery.local}"
    ready_ms = int(delivery.place[1:].partition("-")[0])
    kept = stored_result.pack_result(
        b"[1]", delivery, stored_result.worker_mark("host-1-a1b2c3"), ready_ms + 250, 1500
    )
    shard.settle([delivery], Completed(kept, 60_000))
    shown = as_json(capsys, "task", "show", task)
    assert (shown["result"], shown["success"]) == ([1], {
        "attempt": 1, "at_ms": ready_ms + 1750, "wait_ms": 250, "run_ms": 1500, "worker": "…a1b2c3",
    })  # fmt: skip
    text = run(capsys, "task", "show", task)[1]
    assert "attempt 1 completed at " in text
    assert " on …a1b2c3, waited 250ms, ran 1.5s\n" in text
    assert "…a1b2c3" in run(capsys, "task", "list", "completed")[1]


def test_a_failed_attempt_tells_how_long_it_waited_and_ran(capsys: Capture, shard: Shard) -> None:
    [delivery] = shard.fetch()
    failures = envelope.add_failure(
        b"", attempt=1, at_ms=1_700_000_000_000, worker="w1", error="E", message="m", traceback="tb",
        wait_ms=4, run_ms=61_000,
    )  # fmt: skip
    shard.settle([delivery], Died("attempts", failures))
    text = run(capsys, "task", "show", f"email:0:{delivery.local}")[1]
    assert "on w1, waited 4.0ms, ran 1m01s: E: m" in text


def test_a_task_is_told_in_words(capsys: Capture, shard: Shard) -> None:
    [task] = later(capsys)
    text = run(capsys, "task", "show", task)[1]
    assert re.search(r"^priority +normal$", text, re.MULTILINE)
    assert re.search(r"^due +20\d\d-", text, re.MULTILINE)
    assert not re.search("_ms|stream|entry", text)
    [delivery] = shard.fetch()
    text = run(capsys, "task", "show", f"email:0:{delivery.local}")[1]
    assert re.search(r"^lease renewed +\d+\.\ds ago$", text, re.MULTILINE)
    assert re.search(r"^cancel requested +no$", text, re.MULTILINE)


def test_completed_tasks_are_listed_with_results(capsys: Capture, shard: Shard) -> None:
    short, long = shard.put(), shard.put()
    for delivery in shard.fetch():
        kept = b"[1]" if delivery.local == short else b'"%s"' % (b"x" * 3000)
        result = stored_result.pack_result(kept, delivery, b"abc", 0, 0)
        shard.settle([delivery], Completed(result if delivery.local in (short, long) else b"", 60_000))
    rows = {row["id"]: row for row in as_json(capsys, "task", "list", "completed")["tasks"]}
    assert rows[f"email:0:{short}"]["result"] == "[1]"
    assert rows[f"email:0:{long}"]["result"] is None
    assert rows[f"email:0:{long}"]["payload_size"] > 3000
    assert {row["result"] for row in rows.values()} == {"[1]", None, "null"}
    head, *lines = run(capsys, "task", "list", "completed")[1].splitlines()
    assert head.endswith("RESULT")
    assert {line.split()[-1] for line in lines} == {"[1]", "-", "null"}


def test_a_dead_letter_counts_its_last_attempt(capsys: Capture, shard: Shard) -> None:
    [task] = bury(shard)
    for verb in ("task", "dead"):
        assert as_json(capsys, verb, "show", task)["attempts_failed"] == 1
    assert as_json(capsys, "dead", "list")["dead"][0]["attempts"] == 1


def test_one_task_that_cannot_be_enqueued_is_one_line(capsys: Capture, shard: Shard) -> None:
    code, out, err = run(capsys, "enqueue", "email", '{"to": ')
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_a_server_that_is_away_is_told_once(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamq.cli.target.PATIENCE", 0.1)
    code, out, err = run(capsys, "doctor", "--url", "redis://127.0.0.1:1")
    assert (code, err) == (69, "")
    assert "Connection refused. Is the server running?" in out
    assert ".." not in out
