"""`streamq bench`: every figure on both sides, and nothing left on the server."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from streamq.bench import measure, record
from streamq.cli import main
from streamq.exit_codes import INTERRUPTED, OK, USAGE
from tests.conftest import command
from tests.running import wait_until

SPREAD = {"p50", "p95", "p99"}


@pytest.mark.long
def test_every_figure_is_measured_on_both_sides(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--url", url, "--rounds", "1", "--scale", "0.01", "--json"]) == OK
    found = json.loads(capsys.readouterr().out)
    bare = found.pop("bare")
    assert found.keys() == bare.keys() == measure.FIGURES.keys()
    for side in (found, bare):
        for figure, value in side.items():
            values = value.values() if isinstance(value, dict) else [value]
            assert all(one > 0 for one in values), figure
            assert not isinstance(value, dict) or value.keys() == SPREAD
    assert command(url, "KEYS", "*bench*") == []
    assert command(url, "HKEYS", "streamq:apps") == []


def test_the_table_shows_ratios(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["bench", "--url", url, "--rounds", "1", "--scale", "0.01"]
    assert main([*argv, "--figures", "bytes_per_ready_task,wait_ms"]) == OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["figure", "streamq", "bare", "loop", "ratio"]
    assert [line.split()[0] for line in lines[1:]] == ["bytes_per_ready_task", *["wait_ms"] * 3]


def test_an_unknown_figure_is_named(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--url", url, "--figures", "drain_per_sec"]) == USAGE
    assert "did you mean 'drain_per_s'?" in capsys.readouterr().err


@pytest.mark.parametrize("scale", ["nan", "0", "-1", "inf", "1e9"])
def test_a_scale_that_cannot_be_is_refused(url: str, capsys: pytest.CaptureFixture[str], scale: str) -> None:
    assert main(["bench", "--url", url, "--scale", scale]) == USAGE
    assert "--scale" in capsys.readouterr().err


def _group_runs(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def test_sigterm_leaves_nothing_behind(url: str) -> None:
    words = [sys.executable, "-m", "streamq", "bench", "--url", url, "--figures", "wait_ms"]
    with subprocess.Popen(words, start_new_session=True, stderr=subprocess.PIPE) as bench:
        wait_until(lambda: b"heartbeat" in repr(command(url, "KEYS", "*")).encode())
        bench.terminate()
        assert bench.wait(20) == INTERRUPTED
        wait_until(lambda: not _group_runs(bench.pid))  # its worker ends with it
    assert command(url, "KEYS", "*bench*") == []
    assert command(url, "HKEYS", "streamq:apps") == []


def test_marks_are_counted_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with measure.recording() as folder:
        recorder = record.Recorder()
        for n in range(5000):
            recorder.mark(n)
        assert record.count(folder) == 5000
        assert [stamp for stamp, _ in record.read(folder)] == list(range(5000))
