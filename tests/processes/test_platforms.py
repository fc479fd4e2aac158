"""A producer where there is no Unix, one under gevent, one that forks, and one that was frozen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamq import StreamQ, TaskId
from streamq.embedded import EmbeddedServer
from tests.ports import free_port
from tests.running import clean

ROOT = Path(__file__).resolve().parents[2]

WITHOUT_UNIX = """
import asyncio, importlib.abc, json, multiprocessing, os, signal, socket, subprocess, sys, threading
import redis, redis.asyncio, orjson, structlog, tenacity  # what they import is their affair
GONE = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix", "crypt", "readline"}
for name in GONE:
    sys.modules.pop(name, None)

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in GONE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
pair, unix = socket.socketpair, socket.AF_UNIX
socket.socketpair = lambda *_: pair(unix)  # for this system's event loop
for module, names in {
    os: "register_at_fork fork getuid geteuid getgid killpg setsid getpgid sysconf sched_getaffinity",
    socket: "AF_UNIX SO_REUSEPORT",
    signal: "SIGKILL SIGHUP SIGUSR1 SIGUSR2 SIGSTOP SIGCONT SIGCHLD",
}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
"""
PRODUCER = """
from streamq import StreamQ
from streamq.testing import recording

app = StreamQ("far", URL)

@app.task
def add(a: int, b: int) -> int:
    return a + b

with recording(app) as sent:
    add.enqueue(1, 2)
assert len(sent) == 1
first = add.enqueue(1, 2)
many = app.enqueue_many([add.bind(n, n) for n in range(10)])
assert first.status() == "ready"
assert app.inspector.type_stats("add").ready == 11

async def later():
    handle = await add.options(delay="1h").aenqueue(3, 4)
    assert await handle.astatus() == "scheduled"
    assert await handle.acancel() == "cancelled"
    await app.aclose()

import asyncio
asyncio.run(later())
app.close()
print("done")
"""


@pytest.fixture(scope="module")
def tcp() -> Iterator[str]:
    """A server on TCP: Windows has no unix sockets that redis-py would use."""
    with EmbeddedServer(port=free_port()) as server:
        yield server.url


def run(code: str, *, url: str, timeout: int = 120) -> str:
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code.replace("URL", repr(url))], capture_output=True, text=True,
        check=False, timeout=timeout, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_a_producer_without_the_modules_that_windows_lacks(tcp: str) -> None:
    assert not tcp.startswith("unix")
    assert run(WITHOUT_UNIX + PRODUCER, url=tcp).endswith("done\n")


def test_the_embedded_server_says_what_to_do_where_it_cannot_run(tcp: str) -> None:
    code = """
from streamq import StreamQ, UsageError
try:
    StreamQ("x", "embedded://").send("work")
except UsageError as error:
    print(error)
"""
    assert "needs Linux or macOS" in run(WITHOUT_UNIX + code, url=tcp)


def test_a_producer_under_gevent(tcp: str) -> None:
    """Its sockets are gevent's: other greenlets run while a call waits."""
    code = """
from gevent import monkey
monkey.patch_all()
import gevent, time
from streamq import StreamQ
app = StreamQ("green", URL)

@app.task
def add(a: int, b: int) -> int:
    return a + b

ids = [one.get().id for one in gevent.joinall([gevent.spawn(add.enqueue, n, n) for n in range(50)])]
assert len(set(ids)) == 50
ticks = []
def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.01)
ticking = gevent.spawn(tick)
handle = add.enqueue(1, 1)
try:
    handle.result(0.5)
except TimeoutError:
    pass
assert len(ticks) > 5, len(ticks)
ticking.kill()
app.close()
print("done")
"""
    assert run(code, url=tcp).endswith("done\n")


@pytest.mark.parametrize("patched", ["gevent", "threading"])
def test_a_worker_refuses_to_start_under_monkey_patching(tcp: str, patched: str) -> None:
    code = f"""
from gevent import monkey
monkey.{"patch_all()" if patched == "gevent" else "patch_thread()"}
import asyncio
from streamq import StreamQ, UsageError, Worker
app = StreamQ("green", URL)

@app.task
def add(a: int, b: int) -> int:
    return a + b

try:
    Worker(app)
except UsageError as error:
    print(error)
"""
    said = run(code, url=tcp)
    assert "gevent has patched" in said
    assert "Start the worker without monkey patching" in said


@pytest.mark.parametrize("way", ["preload", "pool"])
def test_processes_that_are_forked_after_the_first_call(tcp: str, way: str) -> None:
    """As gunicorn --preload and uWSGI do: connected before the fork, and each child enqueues."""
    code = """
import os, sys
from streamq import StreamQ
app = StreamQ("forked", URL)

@app.task
def add(a: int, b: int) -> int:
    return a + b

print(add.enqueue(0, 0).id, flush=True)
def child(n):
    handles = [add.enqueue(n, k) for k in range(20)]
    handles += app.enqueue_many([add.bind(n, k) for k in range(20)])
    os.write(1, "".join(f"{one.id}\\n" for one in handles).encode())
"""
    if way == "preload":
        code += """
children = []
for n in range(4):
    pid = os.fork()
    if pid == 0:
        child(n)
        os._exit(0)
    children.append(pid)
parent = [add.enqueue(9, k).id for k in range(20)]
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
os.write(1, "".join(f"{one}\\n" for one in parent).encode())
"""
    else:
        code += """
import multiprocessing
with multiprocessing.get_context("fork").Pool(4) as pool:
    pool.map(child, range(4))
parent = []
"""
    ids = run(code, url=tcp).split()
    assert len(ids) == len(set(ids)) == 1 + 4 * 40 + (20 if way == "preload" else 0)
    assert all(TaskId.parse(one) for one in ids)
    app = StreamQ("forked", tcp)
    assert app.inspector.type_stats("add").counters["accepted"] >= len(ids)
    clean(app)


def test_a_frozen_process_reconnects(tcp: str) -> None:
    """As a serverless container that was asleep between two calls: its sockets are dead."""
    code = """
from streamq import StreamQ
from streamq.calls.call import Call
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
app = StreamQ("frozen", URL)

@app.task
def add(a: int, b: int) -> int:
    return a + b

other = SyncTransport(Address.parse(URL, "code"))
ids = []
for n in range(5):
    ids.append(add.enqueue(n, n).id)
    other.run(Call(None, (), ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"), lambda reply: reply))
assert len(set(ids)) == 5
assert app.inspector.type_stats("add").ready == 5
other.close()
app.close()
print("done")
"""
    assert run(code, url=tcp).endswith("done\n")
