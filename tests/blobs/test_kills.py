"""A program is killed between two steps of a blob's life: no task is without its blob, and a sweep leaves no
blob without a task."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamq.blobs import files
from streamq.blobs.sweep import Sweep, missing
from streamq.calls import blobs as calls
from streamq.keys import shard_keys
from streamq.transport.async_transport import AsyncTransport
from tests.blobs.killed_program import BIG, IN_PRODUCER, IN_WORKER, made
from tests.running import clean, serving

pytestmark = pytest.mark.long  # each starts a process


def run_until_killed(point: str, url: str, folder: Path) -> None:
    words = [sys.executable, "-m", "tests.blobs.killed_program", point, url, str(folder)]
    ended = subprocess.run(words, cwd=Path(__file__).parents[2], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL


def stored(folder: Path) -> list[Path]:
    return [one for one in folder.rglob("*") if one.is_file()]


async def swept(app: Any) -> list[str]:
    """Sweep as workers do, orphans of any age; return the blobs of living tasks that are not there."""
    blobs, transport = app.registry.blobs, AsyncTransport(app.address)
    try:
        sweep = Sweep(app.name, blobs, transport)
        await sweep.remove_due(1)
        await sweep.remove(await sweep.unknown(await sweep.page(), 1, older_than=-1))
        return await missing(app.name, 1, transport, blobs)
    finally:
        await transport.aclose()


@pytest.mark.parametrize("point", IN_PRODUCER)
async def test_a_producer_killed_before_the_task_leaves_a_blob_that_is_swept(
    url: str, tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_until_killed(point, url, tmp_path)
    app, echo = made(url, str(tmp_path))
    assert len(stored(tmp_path)) == 1
    assert app.inspector.types() == []
    handle = echo.enqueue(BIG)
    monkeypatch.setattr(files, "_FORGOTTEN", -1)
    assert await swept(app) == []
    assert len(stored(tmp_path)) == 1  # that of the task
    async with serving(app):
        assert await handle.aresult(20) == BIG.upper()
    clean(app)


@pytest.mark.parametrize("point", IN_WORKER)
async def test_a_worker_killed_before_the_removal_loses_no_task_and_no_blob(
    url: str, tmp_path: Path, point: str
) -> None:
    app, echo = made(url, str(tmp_path))
    handle, waits = echo.enqueue(BIG), echo.options(delay="1h").enqueue(BIG)
    run_until_killed(point, url, tmp_path)
    async with serving(app):
        assert await handle.aresult(30) == BIG.upper()
        assert await swept(app) == []
        # The payload of the task that waits, and the result of the other: of a killed attempt nothing.
        assert len(stored(tmp_path)) == 2
        app.admin.run_now(waits.id)
        assert await waits.aresult(20) == BIG.upper()
    assert await swept(app) == []
    transport = AsyncTransport(app.address)
    assert await transport.run(calls.living(shard_keys(app.name, 0), 0, 10)) == []
    await transport.aclose()
    clean(app)
