"""Tasks that go on as new runs: one after the other, under one handle, each if the one before completed."""

from __future__ import annotations

import os
from typing import Any

import pytest
from tenacity import wait_none

from streamq import KeyRing, Lane, StreamQ, TaskDead, WorkerOptions, get_context
from streamq.errors import InvalidArguments, InvalidOption, UsageError
from streamq.keys import type_keys
from tests.conftest import command
from tests.flows.stage import books
from tests.running import clean, serving, until
from tests.worker import handlers


class Counting:
    """A task that counts down, a number a run, and does more at some of them."""

    def __init__(self, app: StreamQ, **options: Any) -> None:
        self.ran: list[int] = []
        self.failing: set[int] = set()
        options = {"max_attempts": 2, "backoff": wait_none(), **options}

        @app.task(**options)
        async def count(left: int, so_far: int = 0) -> int:
            context = get_context()
            assert await context.step("left", int, left) == left  # no memo of the run before
            self.ran.append(left)
            if left == 0:
                return so_far
            call = context.continue_as_new(count.bind(left - 1, so_far=so_far + left))
            if left in self.failing and context.attempt == 1:
                raise ValueError(f"{left} failed")
            return call

        self.count = count


def keys_left(app: StreamQ, url: str, task_type: str) -> list[Any]:
    t = type_keys(app.name, 0, task_type)
    return [command(url, "HLEN", key) for key in (t.steps, t.index)]


async def test_runs_follow_each_other_under_one_handle(app: StreamQ, url: str) -> None:
    counting = Counting(app)
    async with serving(app):
        handle = await counting.count.aenqueue(5)
        assert await handle.aresult(20) == 15
    assert counting.ran == [5, 4, 3, 2, 1, 0]
    assert handle.status() == "completed"
    counters = type_keys(app.name, 0, "count").counters
    names = ("accepted", "completed", "continued", "handed_back")
    assert command(url, "HMGET", counters, *names) == [b"1", b"1", b"5", None]
    assert keys_left(app, url, "count") == [0, 0]
    clean(app)


async def test_a_failed_attempt_starts_no_run_and_a_run_has_attempts_of_its_own(app: StreamQ) -> None:
    counting = Counting(app)
    counting.failing = {3, 2}
    async with serving(app):
        assert await (await counting.count.aenqueue(3)).aresult(20) == 6
    assert counting.ran == [3, 3, 2, 2, 1, 0]
    clean(app)


async def test_what_dies_is_the_run_and_a_requeue_goes_on_from_it(app: StreamQ) -> None:
    counting = Counting(app, max_attempts=1)
    counting.failing = {2}
    async with serving(app):
        handle = await counting.count.aenqueue(3)
        with pytest.raises(TaskDead, match="2 failed"):
            await handle.aresult(20)
        counting.failing = set()
        app.admin.requeue(handle.id)
        assert await handle.aresult(20) == 6
    assert counting.ran == [3, 2, 2, 1, 0]
    clean(app)


@pytest.mark.parametrize("parked", [False, True])
async def test_cancel_reaches_the_present_run(app: StreamQ, url: str, parked: bool) -> None:
    ran: list[int] = []
    lane: dict[str, Any] = {"lane": Lane(running=1)} if parked else {}

    @app.task(**lane)
    async def poll(n: int) -> int:
        ran.append(n)
        return get_context().continue_as_new(poll.options(delay="1h").bind(n + 1))

    async with serving(app):
        handle = await poll.aenqueue(0)
        await until(lambda: handle.status() in ("scheduled", "parked") and bool(ran))
        assert handle.cancel() == "cancelled"
        assert handle.status() == "cancelled"
    assert ran == [0]
    assert keys_left(app, url, "poll")[1] == 0
    clean(app)


async def test_a_cancel_while_a_run_is_running_starts_no_other(app: StreamQ) -> None:
    ran: list[int] = []

    @app.task
    async def poll(n: int) -> int:
        ran.append(n)
        context = get_context()
        call = context.continue_as_new(poll.bind(n + 1))
        if n == 2:
            assert await handle.acancel() == "requested"
        return call

    async with serving(app):
        handle = await poll.aenqueue(0)
        await until(lambda: handle.status() == "cancelled")
    assert ran == [0, 1, 2]
    clean(app)


async def test_follow_ups_of_each_run_exist_once(app: StreamQ) -> None:
    got: list[int] = []

    @app.task
    async def note(n: int) -> None:
        got.append(n)

    @app.task(max_attempts=2, backoff=wait_none())
    def walk(n: int) -> str:
        context = get_context()
        context.enqueue(note.bind(n))
        if context.attempt == 1:
            raise ValueError
        return context.continue_as_new(walk.bind(n - 1)) if n else f"run {context.generation}"

    async with serving(app):
        assert await (await walk.aenqueue(3)).aresult(20) == "run 3"
        await until(lambda: len(got) == 4)
    assert sorted(got) == [0, 1, 2, 3]
    clean(app)


async def test_a_node_of_a_flow_goes_on(app: StreamQ) -> None:
    counting = Counting(app)
    got: list[int] = []

    @app.task
    async def start() -> int:
        return 4

    @app.task
    async def total(counted: int, parts: list[int]) -> int:
        got.append(counted)
        return counted + len(parts)

    wf = app.flow("sums")
    counted = wf.add(counting.count.bind(wf.add(start.bind()).output))
    parts = wf.map(counting.count, [1, 2])
    wf.add(total.bind(counted.output, parts.output))
    async with serving(app):
        handle = await wf.astart()
        assert await handle.aresult(20) == 12
        assert [one async for one in handle.aresults("count-2")] == [1, 3]
    assert got == [10]
    books(handle)
    clean(app)


async def test_a_failed_run_of_a_node_fails_its_flow_and_a_retry_goes_on_from_it(app: StreamQ) -> None:
    counting = Counting(app, max_attempts=1)
    counting.failing = {2}
    wf = app.flow("sums")
    wf.add(counting.count.bind(3))
    async with serving(app):
        handle = await wf.astart()
        await until(lambda: handle.status() == "failed")
        counting.failing = set()
        assert await handle.aretry()
        assert await handle.aresult(20) == 6
        assert counting.ran == [3, 2, 2, 1, 0]
        assert await handle.aretry(start="count")
        await until(lambda: counting.ran[5:] == [3, 2, 1, 0])
    books(handle)


async def test_an_ordered_lane_waits_for_the_last_run(app: StreamQ) -> None:
    ran: list[tuple[int, int]] = []

    @app.task(lane=Lane("who", order=True))
    async def step(who: int, left: int) -> int:
        ran.append((who, left))
        return get_context().continue_as_new(step.bind(who, left - 1)) if left else 0

    async with serving(app):
        handles = [await step.aenqueue(1, 2), await step.aenqueue(1, 0)]
        assert [await one.aresult(20) for one in handles] == [0, 0]
    assert ran == [(1, 2), (1, 1), (1, 0), (1, 0)]
    clean(app)


async def test_a_new_run_stays_in_its_lane(app: StreamQ) -> None:
    lane = "a lane with a name of more than thirty bytes"

    @app.task(lane=Lane("who"), max_attempts=1)
    async def step(who: str, to: str) -> str:
        if not to:
            return who
        return get_context().continue_as_new(step.bind(to, ""))

    async with serving(app):
        assert await (await step.aenqueue(lane, lane)).aresult(20) == lane
        assert await (await step.aenqueue("a", "a")).aresult(20) == "a"
        with pytest.raises(TaskDead, match="keeps its lane 'a', and this call is of lane 'b'"):
            await (await step.aenqueue("a", "b")).aresult(20)
    clean(app)


async def test_signals_between_two_runs_are_for_the_next(app: StreamQ) -> None:
    @app.task
    async def gather(got: list[int]) -> list[int]:
        context = get_context()
        got.append(await context.wait("more", int))
        return context.continue_as_new(gather.bind(got)) if len(got) < 3 else got

    async with serving(app):
        handle = await gather.aenqueue([])
        for n in (5, 6, 7):
            assert await handle.asignal("more", n) in ("stored", "delivered")
        assert await handle.aresult(20) == [5, 6, 7]
    clean(app)


async def test_a_new_run_of_a_pool_or_an_alias_is_sealed_under_its_own_name(url: str) -> None:
    keys = KeyRing(current="a", keys={"a": b"0" * 32})
    before, now = StreamQ("sealed", url, keys=keys), StreamQ("sealed", url, keys=keys)

    @before.task(name="old")
    async def old(n: int) -> int:
        raise NotImplementedError

    @now.task(aliases=["old"])
    async def new(n: int) -> int:
        return get_context().continue_as_new(new.bind(n + 1)) if n < 2 else n

    first = await old.aenqueue(0)
    async with serving(now, WorkerOptions(concurrency=2, pools=("eu",), block=0.5, heartbeat=0.2)):
        assert await (await new.options(pool="eu").aenqueue(0)).aresult(20) == 2
    async with serving(now):
        assert await first.aresult(20) == 2
    clean(now)


async def test_a_child_process_asks_for_new_runs(url: str) -> None:
    app = handlers.at(url)
    async with serving(app):
        result = await (await handlers.counts_down.aenqueue(2, [])).aresult(30)
    assert [n for n, _ in result] == [2, 1, 0]
    assert os.getpid() not in {pid for _, pid in result}


async def test_a_new_run_is_sealed_and_has_the_options_of_its_call(url: str) -> None:
    sealed = StreamQ("sealed", url, keys=KeyRing(current="a", keys={"a": b"0" * 32}))
    deadlines: list[float] = []

    @sealed.task(expires="1d")
    async def poll(n: int) -> str:
        context = get_context()
        assert context.deadline is not None
        deadlines.append((context.deadline - context.enqueued_at).total_seconds())
        return context.continue_as_new(poll.options(timeout="2h").bind(n + 1)) if n < 2 else "done"

    async with serving(sealed):
        assert await (await poll.aenqueue(0)).aresult(20) == "done"
    assert deadlines[0] < 7000 < deadlines[1]
    clean(sealed)


async def test_what_cannot_be_a_new_run_is_refused_where_it_is_asked_for(app: StreamQ) -> None:
    refused: list[str] = []

    @app.task
    async def other() -> int:
        return 1

    @app.task
    async def walk(n: int) -> int:
        context = get_context()
        for call, error in (
            (other.bind(), UsageError),
            (walk.options(idempotency_key="once").bind(1), InvalidOption),
            (walk.options(shard_key="x").bind(1), InvalidOption),
            (5, InvalidArguments),
        ):
            with pytest.raises(error) as raised:
                context.continue_as_new(call)  # type: ignore[arg-type]
            refused.append(str(raised.value))
        if n:
            return n
        context.continue_as_new(walk.bind(1))
        with pytest.raises(UsageError, match="already"):
            context.continue_as_new(walk.bind(1))
        return 7

    async with serving(app):
        assert await (await walk.aenqueue(1)).aresult(20) == 1
        with pytest.raises(TaskDead, match="return what continue_as_new"):
            await (await walk.options(max_attempts=1).aenqueue(0)).aresult(20)
    assert refused[0].startswith("task walk:0:")
    clean(app)
