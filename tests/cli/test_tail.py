"""`streamq tail` beside a real worker."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamq import StreamQ
from streamq.embedded import EmbeddedServer
from tests.cli.conftest import Capture, run
from tests.lua.shard import Shard
from tests.running import until, working


@contextmanager
def tailing(url: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """A tail that listens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "streamq", "tail", "--url", url, "--app", "shop", *args],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert process.stderr.readline() == "streamq: listening to shop\n"
        yield process
    finally:
        process.kill()
        process.communicate()


async def test_events_of_a_type_as_json_lines(app: StreamQ, url: str) -> None:
    @app.task
    async def email(n: int) -> int:
        return n

    @app.task
    async def sms() -> None: ...

    async with working(app) as worker:
        with tailing(url, "--json", "--type", "email", "--event", "completed", "--limit", "2") as tail:
            await until(lambda: worker.parts.event_publisher.active)
            await sms.aenqueue()
            ids = [(await email.aenqueue(n)).id for n in range(2)]
            await until(lambda: tail.poll() is not None)
            assert tail.stdout is not None
            said = [json.loads(line) for line in tail.stdout.read().splitlines()]
    assert tail.returncode == 0
    assert sorted(one["id"] for one in said) == sorted(ids)
    assert {(one["event"], one["type"], one["attempt"]) for one in said} == {("completed", "email", 1)}
    assert all(one["seconds"] >= 0 and one["worker"] == worker.name for one in said)


async def test_lines_for_people_and_ctrl_c(app: StreamQ, url: str) -> None:
    @app.task(max_attempts=1)
    async def email() -> None:
        raise ValueError("no")

    async with working(app) as worker:
        with tailing(url, "--event", "dead") as tail:
            await until(lambda: worker.parts.event_publisher.active)
            handle = await email.aenqueue()
            assert tail.stdout is not None
            assert tail.stderr is not None
            line = (await asyncio.to_thread(tail.stdout.readline)).split()
            assert line[1:5] == ["dead", handle.id, "attempt", "1"]
            tail.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(tail.wait, 10) == 130
            assert tail.stderr.read() == "streamq: interrupted\n"


def test_a_server_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    with EmbeddedServer(data_dir=tmp_path) as server:
        StreamQ("shop", server.url).send("email")
        with tailing(server.url) as tail:
            assert tail.stderr is not None
            server.stop()
            assert tail.stderr.readline().endswith(". Retrying\n")
            server.start()
            assert tail.stderr.readline() == "streamq: listening again\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--type", "e mail"], "is not a valid name for a task type"),
        (["--event", "nonsense"], "invalid choice: 'nonsense'"),
        (["--limit", "0"], "must be a whole number of at least 1"),
    ],
)
def test_wrong_input(capsys: Capture, shard: Shard, args: list[str], said: str) -> None:
    code, _, err = run(capsys, "tail", *args)
    assert (code, said in err, err.count("\n")) == (2, True, 1)
