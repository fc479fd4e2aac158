"""Child processes of a worker: pipes that are full, deaths, what handlers start in them, and their end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamq import StreamQ, TaskDead
from streamq.context import Context
from streamq.errors import ProcessDied, UnknownTaskType
from streamq.model.delivery import Delivery
from streamq.worker.child_pool import Child, ImportFailed, join_in_background
from streamq.worker.child_requests import RunRequest
from tests.running import clean, serving, until
from tests.worker import handlers

Run = Callable[[Coroutine[Any, Any, None]], None]
LARGE = (1, 70_000, 300_000, 5_000_000, 15_000_000)
"""Characters: below and above what a pipe holds."""


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run on an event loop of each kind: uvloop makes descriptors non-blocking that it watches."""
    factory: Any = asyncio.new_event_loop
    if request.param == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop

    def run(coroutine: Coroutine[Any, Any, None]) -> None:
        async def main() -> None:
            await coroutine
            await asyncio.sleep(0.05)  # what was closed is gone

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())

    return run


def request(name: str, **arguments: Any) -> RunRequest:
    delivery = Delivery(name, 0, "n1-0", "n1-0", orjson.dumps(arguments))
    context = Context(delivery, 1, None, "w")
    return {
        "reference": f"{handlers.__name__}:{name}",
        "delivery": delivery,
        "context": context,
        "trace": b"",
        "server": None,
    }


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    "size", [pytest.param(size, marks=pytest.mark.long if size in (1, LARGE[-1]) else ()) for size in LARGE]
)
def test_arguments_and_results_of_any_size_travel(run: Run, size: int) -> None:
    async def main() -> None:
        children = [Child() for _ in range(3)]
        for child in children:
            await child.open()
        text = "x" * size
        answers = await asyncio.gather(*(child.request(request("echoes", text=text)) for child in children))
        assert [orjson.loads(answer) == text for answer in answers] == [True] * 3
        [child, *_] = children
        grown = orjson.loads(await child.request(request("echoes", text="x", grow=size)))
        assert len(grown) == size
        failed = await child.request(request("fails_at_length", text=text))
        assert failed["error"] == "ValueError"
        for one in children:
            one.close()
        join_in_background([one.process for one in children])

    run(main())


def test_a_full_pipe_is_no_death_and_holds_nobody_up(run: Run) -> None:
    """The child is stopped, so that the pipe stays full, and the loop goes on."""

    async def main() -> None:
        child = Child()
        await child.open()
        await child.request(request("echoes", text=""))
        os.kill(child.pid, signal.SIGSTOP)
        asked = asyncio.create_task(child.request(request("echoes", text="x" * 10_000_000)))
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert not asked.done()
        os.kill(child.pid, signal.SIGCONT)
        assert len(await asked) == 10_000_002
        os.kill(child.pid, signal.SIGSTOP)
        asked = asyncio.create_task(child.request(request("echoes", text="x" * 10_000_000)))
        await asyncio.sleep(0.05)
        os.kill(child.pid, signal.SIGKILL)  # a true death, with most of the request unread
        with pytest.raises(ProcessDied, match="killed by signal 9"):
            await asked
        child.kill()

    run(main())


def test_a_death_is_noticed_while_another_process_holds_the_pipe(run: Run, tmp_path: Path) -> None:
    """What the handler started ends with it."""

    async def main() -> None:
        child = Child()
        await child.open()
        asked = asyncio.create_task(child.request(request("starts_and_waits", path=str(tmp_path / "pids"))))
        await until(lambda: (tmp_path / "pids").exists() and " " in (tmp_path / "pids").read_text(), 20)
        _, below = map(int, (tmp_path / "pids").read_text().split())
        assert runs(below)
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(ProcessDied, match="killed by signal 9"):
            await asked
        await until(lambda: not runs(below))
        child.kill()

    run(main())


async def test_one_that_was_killed_while_it_was_idle_costs_no_attempt(app: StreamQ) -> None:
    remote = handlers.at(str(app.address))
    async with serving(remote):
        pid, _ = await (await handlers.where.aenqueue()).aresult(30)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not Path(f"/proc/{pid}").exists())
        other, attempt = await (await handlers.where.aenqueue()).aresult(30)
        assert (other != pid, attempt) == (True, 1)
    clean(remote)


@pytest.mark.parametrize(
    ("reference", "error", "said"),
    [
        (f"{handlers.__name__}:nothing", UnknownTaskType, "needs it at the top level of its module"),
        ("no.such.module:work", ImportFailed, "ModuleNotFoundError: No module named 'no'"),
    ],
)
def test_what_cannot_be_imported_is_no_death(
    run: Run, reference: str, error: type[Exception], said: str
) -> None:
    async def main() -> None:
        child = Child()
        await child.open()
        with pytest.raises(error, match=said):
            await child.prepare(reference)
        assert (await child.request(request("where"))).startswith(b"[")
        child.kill()

    run(main())


@pytest.mark.parametrize("method", ["fork", "spawn"])
async def test_handlers_may_use_multiprocessing(app: StreamQ, method: str) -> None:
    remote = handlers.at(str(app.address))
    async with serving(remote):
        assert await (await handlers.shares_work.aenqueue(method)).aresult(40) == [0, 1, 4, 9]


async def test_an_idle_child_ends_with_its_exit_handlers(app: StreamQ, tmp_path: Path) -> None:
    remote = handlers.at(str(app.address))
    async with serving(remote):
        pid = await (await handlers.promises.aenqueue(str(tmp_path / "said"))).aresult(30)
    await until(lambda: not runs(pid))
    assert (tmp_path / "said").read_text() == "said goodbye"


async def test_what_a_handler_started_ends_with_its_timeout(app: StreamQ, tmp_path: Path) -> None:
    remote = handlers.at(str(app.address))
    async with serving(remote):
        late = handlers.starts_and_waits.options(timeout=3)
        handle = await late.aenqueue(str(tmp_path / "pids"))
        with pytest.raises(TaskDead, match="AttemptTimeout"):
            await handle.aresult(40)
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        await until(lambda pid=pid: not runs(pid))  # type: ignore[misc]
