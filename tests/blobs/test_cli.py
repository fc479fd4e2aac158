"""`streamq blobs`: compares the store with the queue, and removes what no task needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamq import FileBlobs, StreamQ
from streamq.cli import main

BIG = "x" * 5000
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def app(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StreamQ]:
    monkeypatch.setenv("STREAMQ_BLOBS", f"file://{tmp_path}?over=1024")
    monkeypatch.setenv("STREAMQ_URL", url)
    made = StreamQ("shop", url)
    found = made.registry.blobs
    assert found is not None
    assert found.over == 1024
    yield made
    made.close()


def told(capsys: Capture, *line: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["blobs", *line, "--app", "shop", "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, found


def test_status_and_gc(app: StreamQ, tmp_path: Path, capsys: Capture) -> None:
    task = app.task(name="plain")(lambda text: None)
    living, gone = task.enqueue(BIG), task.enqueue(BIG)
    gone.cancel()
    FileBlobs(tmp_path).put("streamq%3Ashop/plain/1-left", b"123")
    FileBlobs(tmp_path).put("streamq%3Aother/plain/1-of-another-app", b"123")
    code, found = told(capsys, "status", "--older-than", "0")
    assert (code, found["living"], found["removable"], found["stored"], found["orphans"]) == (0, 1, 1, 3, 1)
    code, found = told(capsys, "gc")
    assert (code, found["removed"], found["orphans"]) == (0, 1, 0)  # the orphan is not a day old
    code, found = told(capsys, "gc", "--older-than", "0")
    assert (code, found["removed"]) == (0, 1)
    assert len([one for one in tmp_path.rglob("*") if one.is_file()]) == 2
    capsys.readouterr()
    assert main(["task", living.id, "--app", "shop"]) == 0
    assert "it is in blob streamq%3Ashop/plain/" in capsys.readouterr().out


def test_a_missing_blob_is_named(app: StreamQ, tmp_path: Path, capsys: Capture) -> None:
    app.task(name="plain")(lambda text: None).enqueue(BIG)
    [file] = [one for one in tmp_path.rglob("*") if one.is_file()]
    file.unlink()
    code, found = told(capsys, "status")
    assert (code, found["missing"]) == (6, [str(file.relative_to(tmp_path))])


def test_gc_needs_the_store(app: StreamQ, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    app.task(name="plain")(lambda text: None).enqueue(BIG)
    monkeypatch.delenv("STREAMQ_BLOBS")
    assert told(capsys, "status")[1]["living"] == 1
    assert main(["blobs", "gc", "--app", "shop"]) == 2
    assert "name the store with STREAMQ_BLOBS" in capsys.readouterr().err
