"""The way back of a dead worker's task, as history and journals tell it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.chaos.history import Event
from tests.chaos.journal import commands, lives
from tests.chaos.recovery import recoveries, told

TASK = "mail:0:n1000-0"
NORMAL, SUSPECT = b"streamq:{chaos:0}:mail:normal", b"streamq:{chaos:0}:mail:suspect"


def written(*words: bytes | str | int) -> bytes:
    """A command as an append-only file has it."""
    raw = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in raw)


def added(stream: bytes, entry: str, *fields: str) -> bytes:
    return written("XADD", stream, entry, "p", "{}", *fields)


def held(stream: bytes, entry: str, worker: str, at: int) -> bytes:
    return written("XCLAIM", stream, "g", worker, 0, entry, "TIME", at, "RETRYCOUNT", 1, "FORCE", "JUSTID")


def event(name: str, ms: int, pid: int, **about: Any) -> Event:
    return {"event": name, "at": ms * 1_000_000, "wall": ms, "pid": pid, **about}


FIRST = (
    added(NORMAL, "1000-0")
    + held(NORMAL, "1000-0", "w1", 1100)
    + added(NORMAL, "1200-0")
    + held(NORMAL, "1000-0", "w1", 2000)
)
SECOND = (
    added(NORMAL, "4000-0", "i", "n1000-0", "l", "1")
    + held(NORMAL, "4000-0", "w2", 5000)
    + added(SUSPECT, "7500-0", "i", "n1000-0", "l", "2")
    + held(SUSPECT, "7500-0", "w3", 7900)
)
START = {"id": TASK, "conduct": "ok"}
EVENTS = [
    event("start", 1150, 11, place="n1000-0", worker="w1", lost=0, **START),
    event("fault", 2500, 1, kind="worker_killed", whom="worker 11", killed=11),
    event("fault", 5500, 1, kind="worker_killed", whom="worker 12", killed=12),
    event("start", 8000, 13, place="s7500-0", worker="w3", lost=2, **START),
    event("effect", 8100, 13, **START),
]


def test_what_a_server_deleted_before_it_died_is_gone(tmp_path: Path) -> None:
    """Nothing later in its file tells a time; where another server's file does, that counts."""
    deleted = written("XDEL", NORMAL, "1000-0")
    (tmp_path / "a.incr.aof").write_bytes(FIRST + deleted)
    assert [entry.gone for entry in lives([tmp_path])[TASK]] == [2000]
    (tmp_path / "b.incr.aof").write_bytes(FIRST + deleted + added(NORMAL, "2100-0"))
    assert [entry.gone for entry in lives([tmp_path])[TASK]] == [2100]


def test_a_journal_tells_every_place_of_a_task(tmp_path: Path) -> None:
    """Also where a primary and its replica wrote the same, and where death tore the last command."""
    for name, data in (("a", FIRST), ("b", FIRST + SECOND + added(NORMAL, "9000-0")[:-9])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "appendonly.aof.1.incr.aof").write_bytes(b"#TS:1\r\n" + data)
    found = lives([tmp_path])
    assert set(found) == {TASK, "mail:0:n1200-0"}
    assert [(one.place, one.ready, one.lost) for one in found[TASK]] == [
        ("n1000-0", 1000, 0), ("n4000-0", 4000, 1), ("s7500-0", 7500, 2),
    ]  # fmt: skip
    assert found[TASK][0].held == [(1100, "w1"), (2000, "w1")]


def test_a_journal_tells_when_an_entry_was_gone(tmp_path: Path) -> None:
    """Its deletion tells no time: that of its transaction does, else the next write, else the one before."""
    data = (
        added(NORMAL, "1000-0")
        + added(NORMAL, "1001-0")
        + written("XDEL", NORMAL, "1000-0")
        + written("MULTI")
        + added(SUSPECT, "3000-0", "i", "n1001-0", "l", "1", "a", "2")
        + written("XDEL", NORMAL, "1001-0")
        + written("EXEC")
        + written("XDEL", SUSPECT, "3000-0")
    )
    (tmp_path / "appendonly.aof.1.incr.aof").write_bytes(data)
    found = lives([tmp_path])
    assert [entry.gone for entry in found[TASK]] == [3000]
    told = [(entry.place, entry.lost, entry.failed, entry.gone) for entry in found["mail:0:n1001-0"]]
    assert told == [("n1001-0", 0, 0, 3000), ("s3000-0", 1, 2, 3000)]


def test_a_torn_command_is_left_out() -> None:
    whole = written("SET", "a", "b")
    for cut in range(1, len(whole)):
        assert list(commands(whole + whole[:cut])) == [[b"SET", b"a", b"b"]]


def test_ready_is_when_it_was_taken_back_and_not_when_that_was_done_once_more(tmp_path: Path) -> None:
    (tmp_path / "appendonly.aof.1.incr.aof").write_bytes(FIRST + SECOND)
    [back] = recoveries(EVENTS, lives([tmp_path]))
    assert (back.ready_ms, back.started_ms) == (1500, 5500)
    [unknown] = recoveries(EVENTS)
    assert unknown.ready_ms == 5000
    assert told(back, lives([tmp_path]), EVENTS) == [
        f"{TASK}: w1 died; ready after 1.5 s, started after 5.5 s",
        "    +1.5 s  ** ready in normal (taken back, 1 lost), behind 1 others",
        "    +2.5 s  ** given to w2",
        "    +3.0 s  worker_killed: worker 12",
        "    +5.0 s  ** ready in suspect (taken back, 2 lost), behind 0 others",
        "    +5.4 s  ** given to w3",
        "    +5.5 s  started by w3",
    ]
