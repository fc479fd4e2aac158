"""Producers in processes of their own: frozen for longer than the server waits for a silent client, and
forked by uWSGI."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from streamq import StreamQ
from streamq.embedded import EmbeddedServer
from tests.conftest import command
from tests.ports import free_port
from tests.running import clean, wait_until

pytestmark = pytest.mark.long  # each starts a process, and waits for a server's timeout
ROOT = Path(__file__).resolve().parents[2]
SILENT = 1
"""Seconds after which the server closes the connection of a silent client."""

PROGRAM = """
import asyncio, sys
from streamq import StreamQ

app = StreamQ("frozen", sys.argv[1], patience=float(sys.argv[3]))

@app.task
def add(a: int) -> int:
    return a

def lines():
    for line in sys.stdin:
        yield line.strip()

def tell(call):
    try:
        print("task", call(), flush=True)
    except Exception as error:
        print(type(error).__name__, " ".join(str(error).split()), flush=True)

async def main():
    for line in lines():
        try:
            print("task", (await add.aenqueue(int(line))).id, flush=True)
        except Exception as error:
            print(type(error).__name__, " ".join(str(error).split()), flush=True)

if sys.argv[2] == "async":
    asyncio.run(main())
else:
    for line in lines():
        tell(lambda: add.enqueue(int(line)).id)
"""


class Producer:
    """A program that enqueues a task for each line that it is given, and prints what became of it."""

    def __init__(self, url: str, way: str, patience: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, url, way, str(patience)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def ask(self, number: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def stopped(self) -> bool:
        """Return whether the kernel has stopped it."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        wait_until(self.stopped)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def producing(url: str, way: str, patience: float = 5.0) -> Iterator[Producer]:
    producer = Producer(url, way, patience)
    try:
        yield producer
    finally:
        producer.process.kill()
        producer.process.communicate()


@pytest.fixture(scope="module")
def strict() -> Iterator[str]:
    """A server that closes connections on which it hears nothing."""
    with EmbeddedServer(port=free_port()) as server:
        command(server.url, "CONFIG", "SET", "timeout", SILENT)
        yield server.url


def clients(url: str) -> int:
    """Return how many others are connected."""
    found: Any = command(url, "CLIENT", "LIST", "TYPE", "normal")
    return len(found.splitlines()) - 1


def numbers(app: StreamQ) -> list[int]:
    """Return what was enqueued, in order."""
    rows = app.inspector.tasks("ready", "add", limit=200).rows
    return sorted(json.loads(row.payload or b"")["a"] for row in rows)


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_producer_that_was_frozen_between_two_calls_goes_on(strict: str, way: str) -> None:
    command(strict, "FLUSHALL")
    with producing(strict, way) as producer:
        for number in range(3):
            producer.ask(number)
            assert producer.answer().startswith("task add:")
            producer.freeze()
            wait_until(lambda: clients(strict) == 0)  # the server has closed its connection
            producer.thaw()
        producer.ask(3)
        assert producer.answer().startswith("task add:")
        assert numbers(StreamQ("frozen", strict)) == [0, 1, 2, 3]


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("patience", [5.0, 0.5], ids=["patient", "impatient"])
def test_a_producer_that_was_frozen_within_a_call_sends_it_once(
    strict: str, way: str, patience: float
) -> None:
    """The server answers while the producer is stopped, and closes its connection. No call has a key."""
    command(strict, "FLUSHALL")
    with producing(strict, way, patience) as producer:
        producer.ask(0)
        first = producer.answer()
        told = []
        for number in range(1, 4):
            command(strict, "CLIENT", "PAUSE", 400, "WRITE")
            producer.ask(number)
            wait_until(lambda: blocked(strict))  # the call is at the server
            producer.freeze()
            wait_until(lambda: clients(strict) == 0)
            producer.thaw()
            told.append(producer.answer())
        producer.ask(4)
        told.append(producer.answer())
    assert first.startswith("task add:")
    assert told[-1].startswith("task add:")
    app = StreamQ("frozen", strict)
    assert numbers(app) == [0, 1, 2, 3, 4]
    for one in told:
        assert one.startswith(("task add:", "OutcomeUnknown")), one
    ids = [one.removeprefix("task ") for one in (first, *told) if one.startswith("task ")]
    assert len(set(ids)) == len(ids)
    assert {app.handle(one).status() for one in ids} == {"ready"}
    clean(app)


def blocked(url: str) -> bool:
    found: Any = command(url, "INFO", "clients")
    return b"blocked_clients:0" not in found


WEB = """
import json, os
from streamq import ResultTimeout, StreamQ

app = StreamQ("prefork", os.environ["STREAMQ_URL"])

@app.task
def add(a: int) -> int:
    return a

first = add.enqueue(-1).id  # before the fork: the master is connected

def application(environ, start_response):
    number = int(environ["QUERY_STRING"] or 0)
    one, *many = app.enqueue_many([add.bind(number), add.bind(number)])
    single, late = add.enqueue(number), False
    try:
        single.result(0.01)
    except ResultTimeout:
        late = True
    start_response("200 OK", [("Content-Type", "application/json")])
    ids = [one.id, many[0].id, single.id]
    return [json.dumps({"pid": os.getpid(), "ids": ids, "first": first, "late": late}).encode()]
"""


@pytest.mark.skipif(shutil.which("uwsgi") is None, reason="no uWSGI here: pip install uwsgi")
@pytest.mark.parametrize(
    "way", ["preload", "lazy-apps", "enable-threads", "py-call-uwsgi-fork-hooks", "bare"]
)
def test_uwsgi_forks_producers(url: str, tmp_path: Path, way: str) -> None:
    """Its processes are forked from one that is connected, without Python's own hooks, and have no threads
    unless it is told so."""
    (tmp_path / "web.py").write_text(WEB)
    port = free_port()
    master = [] if way == "bare" else ["--master"]
    more = [] if way in ("preload", "bare") else [f"--{way}"]
    words = [
        "uwsgi", "--http-socket", f"127.0.0.1:{port}", "--wsgi-file", "web.py", "-p", "3", *master, *more,
        *(["--threads", "2"] if way == "enable-threads" else []), "--need-app", "--die-on-term",
        "--virtualenv", sys.prefix, "--pythonpath", str(ROOT),
    ]  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        web = subprocess.Popen(
            words, cwd=tmp_path, stdout=log, stderr=log, env=os.environ | {"STREAMQ_URL": url},
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: answers(port), 60)
        with ThreadPoolExecutor(6) as callers:
            found = list(callers.map(lambda number: asked(port, number), range(40)))
        web.terminate()
        assert web.wait(60) == (30 if way == "bare" else 0)  # as it ends without a master
    finally:
        with suppress(ProcessLookupError):
            os.killpg(web.pid, signal.SIGKILL)
        web.wait()
    assert "Traceback" not in (tmp_path / "log").read_text()
    ids = [one for answer in found for one in answer["ids"]]
    assert len(set(ids)) == len(ids) == 120
    assert all(answer["late"] for answer in found)
    assert len({answer["pid"] for answer in found}) > 1
    masters = {answer["first"] for answer in found}
    assert len(masters) == 1 or way == "lazy-apps"
    app = StreamQ("prefork", url)
    assert set(ids) | masters <= {row.id for row in all_rows(app)}
    clean(app)


def all_rows(app: StreamQ) -> Iterator[Any]:
    cursor = ""
    while True:
        page = app.inspector.tasks("ready", "add", cursor=cursor, limit=200)
        yield from page.rows
        cursor = page.cursor
        if not cursor:
            return


def asked(port: int, number: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/?{number}", timeout=20) as reply:
        found: dict[str, Any] = json.loads(reply.read())
        return found


def answers(port: int) -> bool:
    try:
        asked(port, 0)
    except OSError:
        time.sleep(0.05)
        return False
    return True
