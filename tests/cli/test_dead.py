"""Dead letters on the command line: by fault, with filters, counted before, asked about, edited."""

from __future__ import annotations

import io
import re
import sys
import time
from pathlib import Path

import pytest

from streamq import Inspector
from streamq.calls import producer as producer_calls
from tests.cli.conftest import Capture, as_json, bury, run
from tests.lua.shard import Shard


def faults(shard: Shard) -> tuple[list[str], list[str]]:
    """Three letters of one fault and two of another."""
    shard.fetch()
    for _ in range(3):
        shard.put(b'{"n":1}')
    three = bury(shard, "ValueError", "no \x1b[31m")
    for _ in range(2):
        shard.put(b'{"n":2}')
    return three, bury(shard, "Timeout", "gave up")


def groups(capsys: Capture, *args: str) -> dict[str, tuple[str, int]]:
    return {
        one["error"]: (one["group"], one["count"])
        for one in as_json(capsys, "dead", "groups", *args)["groups"]
    }


def test_one_by_one(capsys: Capture, shard: Shard) -> None:
    three, two = faults(shard)
    listed = as_json(capsys, "dead", "list")["dead"]
    assert {one["id"] for one in listed} == {*three, *two}
    assert {one["last_error"]["error"] for one in listed} == {"ValueError", "Timeout"}
    assert listed[0]["payload"] in ({"n": 1}, {"n": 2})
    _, out, _ = run(capsys, "dead", "list", "email", "--limit", "2")
    assert len(out.splitlines()) == 3
    _, out, _ = run(capsys, "dead", "show", three[0])
    assert "attempt 1 at 2023-11-14T22:13:20Z on w1: ValueError: no \\x1b[31m" in out
    assert "\x1b" not in out


def test_by_fault(capsys: Capture, shard: Shard) -> None:
    faults(shard)
    found = groups(capsys)
    assert {name: count for name, (_, count) in found.items()} == {"ValueError": 3, "Timeout": 2}
    assert set(groups(capsys, "--error", "time")) == {"Timeout"}
    assert set(groups(capsys, "--group", found["ValueError"][0])) == {"ValueError"}
    assert groups(capsys, "--older-than", "1h") == {}
    code, out, _ = run(capsys, "dead", "groups")
    assert code == 0
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        [found["ValueError"][0], "email", "3"], [found["Timeout"][0], "email", "2"],
    ]  # fmt: skip
    assert "\x1b" not in out


def test_list_and_requeue_are_about_the_same_letters(capsys: Capture, shard: Shard) -> None:
    three, two = faults(shard)
    group = groups(capsys)["ValueError"][0]
    for filters, wanted in (
        (["--group", group], three), (["--error", "timeout"], two), (["--error", "gave up"], []),
        (["--newer-than", "1h"], three + two), (["--older-than", "1h"], []),
        (["--type", "email"], three + two),
        (["--error", "Timeout", "--type", "email"], two),
    ):  # fmt: skip
        listed = [one["id"] for one in as_json(capsys, "dead", "list", *filters)["dead"]]
        assert sorted(listed) == sorted(wanted)
        assert as_json(capsys, "dead", "requeue", *filters, "--dry-run") == {"would_requeue": len(wanted)}
    assert shard.snapshot().dead == 5


def test_requeue_fresh_drops_memos(capsys: Capture, shard: Shard) -> None:
    shard.put()
    shard.put()
    ids = [f"email:0:{one.rpartition(':')[2]}" for one in bury(shard)]
    for one in ids:
        local = one.rpartition(":")[2]
        shard.command("HSET", shard.t.steps, local, "1\0one", f"{local}\0one", "1")
    assert as_json(capsys, "task", "show", ids[0])["memos"] == {"one": 1}
    assert as_json(capsys, "dead", "requeue", ids[0], "--fresh")["requeued"] == 1
    rest = len(ids) - 1
    assert shard.command("HLEN", shard.t.steps) == 2 * rest
    assert as_json(capsys, "dead", "requeue", "--type", "email", "--fresh")["requeued"] == rest
    assert shard.command("HLEN", shard.t.steps) == 0


def test_requeue(capsys: Capture, shard: Shard) -> None:
    three, _ = faults(shard)
    assert as_json(capsys, "dead", "requeue", three[0]) == {"requeued": 1, "asked": 1}
    code, _, err = run(capsys, "dead", "requeue", three[0], three[1])
    assert (code, "the others are not dead letters" in err) == (3, True)
    code, out, err = run(capsys, "dead", "requeue", "--error", "Timeout")
    assert (code, out) == (0, "requeued 2 of 2\n")
    assert "requeue: 2 dead letters (email 2)" in err
    assert as_json(capsys, "dead", "requeue", "--all") == {"requeued": 1, "asked": 1}
    assert as_json(capsys, "dead", "requeue", "--all") == {"requeued": 0, "asked": 0}
    assert (shard.snapshot().dead, shard.snapshot().ready) == (0, 5)


def test_purge_says_how_many_and_asks(capsys: Capture, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    three, _ = faults(shard)
    assert run(capsys, "dead", "purge", "--all", "--dry-run")[1] == "would purge 5 dead letters (email 5)\n"
    assert as_json(capsys, "dead", "purge", three[0], "email:0:n1-0", "--dry-run") == {"would_purge": 1}
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    code, _, err = run(capsys, "dead", "purge", "--error", "Timeout")
    assert (code, "refusing without confirmation: pass --yes" in err) == (1, True)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    code, out, err = run(capsys, "dead", "purge", "--error", "Timeout")
    assert (code, out) == (0, "purged 2 of 2\n")
    assert "Delete 2 dead letters (email 2) permanently? [y/N]" in err
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert run(capsys, "dead", "purge", "--all")[0] == 1
    assert as_json(capsys, "dead", "purge", three[0], "--yes") == {"purged": 1, "asked": 1}
    assert as_json(capsys, "dead", "purge", "--type", "email", "--yes") == {"purged": 2, "asked": 2}
    assert run(capsys, "dead", "list")[2] == run(capsys, "dead", "groups")[2] == "no dead letters\n"
    assert shard.snapshot().counters["purged"] == 5


def test_an_interrupted_purge_has_done_what_it_says(
    capsys: Capture, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults(shard)

    def steps(*_: object) -> object:
        yield 2
        raise KeyboardInterrupt

    monkeypatch.setattr("streamq.control.admin.Admin.purge_in_steps", steps)
    code, out, err = run(capsys, "dead", "purge", "--all", "--yes")
    assert (code, out) == (130, "purged 2 of 5\n")
    assert "interrupted: finished batches stay done" in err


def test_what_a_newcomer_types(capsys: Capture, shard: Shard) -> None:
    ids, _ = faults(shard)

    def printed(*args: str) -> tuple[int, str]:
        code, out, _ = run(capsys, *args)
        return code, re.sub(r" *[0-9.]+m?s ago *", "", out)  # the two are not asked at the same moment

    assert printed("dead") == printed("dead", "list")
    assert printed("dead", "--limit", "2") == printed("dead", "list", "--limit", "2")
    assert printed("dead", ids[0]) == printed("dead", "show", ids[0])
    assert printed("dead", "groups", "email") == printed("dead", "groups", "--type", "email")
    assert run(capsys, "dead", "--help")[1].startswith("usage: streamq dead [-h]")
    assert run(capsys, "dead", "requeue", "--type", "email", "--all")[:2] == (0, "requeued 5 of 5\n")
    faults(shard)
    assert run(capsys, "dead", "purge", "--all", "--error", "ValueError", "--dry-run")[0] == 0


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["requeue"], 2, "select by ids, filters"),
        (["requeue", "email:0:n1-0", "--all"], 2, "dead requeue: use ids or filters, not both"),
        (["requeue", "email:0:n1-0", "--type", "email"], 2, "dead requeue: use ids or filters, not both"),
        (["purge", "--error", "", "--yes"], 2, "--error is empty"),
        (["purge", "--group", "", "--yes"], 2, "--group is empty"),
        (["purge", "--type", "", "--yes"], 2, "--type is empty"),
        (["purge", "--type", "emial", "--yes"], 3, "did you mean 'email'?"),
        (
            ["purge", "--group", "abc", "--yes"],
            3,
            "unknown group 'abc': `streamq dead groups` lists the groups",
        ),
        (["purge", "--older-than", "soon", "--yes"], 2, "--older-than='soon': not a duration. Write '90s'"),
        (["purge", "nonsense", "--yes"], 2, "for a task type use --type nonsense"),
        (["list", "--limit", "0"], 2, "--limit=0: must be a whole number of at least 1"),
        (["list", "email", "--type", "sms"], 2, "the task type is given twice"),
        (["list", "emial"], 3, "did you mean 'email'?"),
        (["edit", "email:0:n1-0", "{}"], 3, "is not a dead letter: it is unknown"),
        (["nonsense"], 2, "invalid choice: 'nonsense'"),
    ],
)
def test_wrong_input_deletes_nothing(
    capsys: Capture, shard: Shard, args: list[str], code: int, said: str
) -> None:
    bury(shard)
    got, _, err = run(capsys, "dead", *args)
    assert (got, said in err, err.count("\n")) == (code, True, 1)
    assert shard.snapshot().dead == 1


def test_edit_one(capsys: Capture, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    [dead] = bury(shard)
    assert run(capsys, "dead", "edit", dead, "[1]")[0] == 2
    code, _, err = run(capsys, "dead", "edit", dead)
    assert (code, "pass the new arguments as JSON, or - for standard input" in err) == (2, True)
    new = as_json(capsys, "dead", "edit", dead, '{"n":7}')["id"]
    assert as_json(capsys, "task", "show", new)["payload"] == {"n": 7}
    assert run(capsys, "dead", "edit", dead, "{}")[0] == 3
    assert (shard.snapshot().dead, shard.snapshot().ready) == (0, 1)


def test_edit_in_an_editor(
    capsys: Capture, shard: Shard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    [dead] = bury(shard)
    editor = tmp_path / "editor.py"
    editor.write_text(
        "import sys, pathlib\np = pathlib.Path(sys.argv[1])\np.write_text(p.read_text().replace('0', '8'))\n"
    )
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True, raising=False)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "true")
    code, _, err = run(capsys, "dead", "edit", dead)
    assert (code, "the arguments are unchanged" in err) == (1, True)
    monkeypatch.setenv("EDITOR", f"{sys.executable} {editor}")
    new = as_json(capsys, "dead", "edit", dead)["id"]
    assert as_json(capsys, "task", "show", new)["payload"] == {"n": 8}
    monkeypatch.setenv("EDITOR", "/no/such/editor")
    [dead] = bury(shard)
    code, _, err = run(capsys, "dead", "edit", dead)
    assert (code, "set EDITOR, or pass the arguments as JSON" in err) == (2, True)


def test_edit_from_standard_input(capsys: Capture, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    [dead] = bury(shard)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"n":9}')))
    code, out, _ = run(capsys, "dead", "edit", dead, "-")
    assert code == 0
    assert as_json(capsys, "task", "show", out.strip())["payload"] == {"n": 9}


def test_the_newest_of_all_shards_come_first(capsys: Capture, shard: Shard) -> None:
    """Shards are not listed one after the other, and page by page each letter comes once."""
    shard.run(producer_calls.announce("shop", 3))
    shards = [Shard(shard.transport, shard=n) for n in range(3)]
    shard.settle(shard.fetch())
    died: list[str] = []
    for n in (2, 0, 0, 1, 2, 1, 0, 2):
        shards[n].put()
        died.insert(0, bury(shards[n], "ValueError" if n else "KeyError")[0])
        time.sleep(0.002)
    listed = [one["id"] for one in as_json(capsys, "dead", "list", "--limit", "4")["dead"]]
    assert listed == died[:4]
    assert [one["id"] for one in as_json(capsys, "dead", "list", "--error", "ValueError")["dead"]] == [
        one for one in died if ":0:" not in one
    ]
    inspector = Inspector(shard.transport, "shop")
    for task_type in ("email", None):
        seen, cursor = list[str](), ""
        while True:
            page = inspector.tasks("dead", task_type, cursor=cursor, limit=3)
            seen += [row.id for row in page.rows]
            cursor = page.cursor
            if not cursor:
                break
        assert seen == died
