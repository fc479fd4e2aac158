"""Flows that are undone: what has completed is taken back, the last of it first, or it is told loudly."""

from __future__ import annotations

from typing import Any

import pytest

from streamq import Expand, FlowCancelled, FlowFailed, FlowGraph, StreamQ
from streamq.cli import main
from streamq.doctor.queue import AppChecks
from streamq.errors import InvalidArguments, InvalidOption, UsageError
from streamq.flows.inputs import Failure
from tests.flows.stage import books, ended
from tests.running import clean, serving, until


class Trip:
    """A diamond each of whose nodes can be undone."""

    def __init__(self, app: StreamQ) -> None:
        self.told: list[Any] = []
        self.broken: set[str] = set()

        @app.task(max_attempts=1)
        async def book(what: str, after: list[str] | None = None) -> str:
            return self._run(what)

        @app.task(max_attempts=1)
        async def give_back(what: str) -> None:
            self._run(f"undo {what}")

        @app.task
        async def alarm(why: Failure) -> None:
            self.told.append(f"alarm: {why.node}")

        self.book, self.give_back = book, give_back
        self.wf: FlowGraph = app.flow("trip")
        top = self.wf.add(book.bind("top"), name="top", undo=give_back)
        left = self.wf.add(book.bind("left", [top.output]), name="left", undo=give_back)
        right = self.wf.add(book.bind("right", [top.output]), name="right", undo=give_back.bind("right"))
        self.wf.add(book.bind("end", [left.output, right.output]), name="end", undo=give_back)
        self.wf.on_failure(alarm.bind(self.wf.failure))

    def _run(self, what: str) -> str:
        if what in self.broken:
            self.told.append(f"{what} fails")
            raise ValueError(f"{what} is broken")
        self.told.append(what)
        return what


async def test_a_flow_that_completes_undoes_nothing(app: StreamQ) -> None:
    trip = Trip(app)
    async with serving(app):
        handle = await trip.wf.astart()
        assert await handle.aresult(20) == "end"
    assert sorted(trip.told) == ["end", "left", "right", "top"]
    nodes = {one.name: (one.kind, one.state) for one in handle.nodes()}
    assert nodes["undo-top"] == ("undo", "skipped")
    books(handle)
    clean(app)


@pytest.mark.parametrize("broken", ["top", "left", "right", "end"])
async def test_undo_runs_in_reverse_order(app: StreamQ, broken: str) -> None:
    trip = Trip(app)
    trip.broken = {broken}
    async with serving(app):
        handle = await trip.wf.astart()
        with pytest.raises(FlowFailed, match=f"{broken} is broken"):
            await handle.aresult(20)
        assert await ended(handle) == "failed"
        at = trip.told.index(f"{broken} fails")
        done = [one for one in trip.told if "undo" not in one and "fails" not in one and "alarm" not in one]
        undone = [one for one in trip.told if "undo" in one]
        assert undone == [f"undo {one}" for one in reversed(done)]
        assert trip.told[-1] == f"alarm: {broken}"
        clean(app)
        # What was undone runs again, and all that waits for it.
        before, trip.broken = len(trip.told), set()
        assert at < before
        assert await handle.aretry()
        assert await handle.aresult(20) == "end"
    assert sorted(trip.told[before:]) == ["end", "left", "right", "top"]
    books(handle)
    clean(app)


async def test_a_cancelled_flow_is_undone_unless_that_is_not_wanted(app: StreamQ) -> None:
    trip = Trip(app)
    slow = trip.wf.add(trip.book.options(delay="1h").bind("slow"))
    assert slow.name == "book"
    async with serving(app):
        for undo, undone in ((True, 4), (False, 0)):
            handle = await trip.wf.astart()
            await until(lambda handle=handle: handle.info().done == 4)  # type: ignore[misc]
            assert await handle.acancel(undo=undo)
            with pytest.raises(FlowCancelled):
                await handle.aresult(20)
            assert len([one for one in trip.told if "undo" in one]) == undone
            assert handle.info().done == 5 + undone  # the cancelled one among them
            books(handle)
            trip.told.clear()
    clean(app)


async def test_a_failed_undo_is_told_and_tried_again(
    app: StreamQ, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trip = Trip(app)
    trip.broken = {"end", "undo left"}
    async with serving(app):
        handle = await trip.wf.astart()
        with pytest.raises(FlowFailed, match=r"is stuck: its undo failed in node 'undo-left' .*undo left is"):
            await handle.aresult(20)
        assert handle.status() == "stuck"
        assert trip.told[-1] == "alarm: end"
        books(handle)
        checks = AppChecks(app._client.transport, app.name, 1).run([])
        [said] = [one.finding for one in checks if "undo task failed" in one.finding]
        assert handle.id in said
        capsys.readouterr()
        assert main(["flow", handle.id, "--url", url, "--app", "shop"]) == 0
        assert "undo failed in undo-left" in capsys.readouterr().out
        assert not await handle.acancel()
        trip.broken = {"end"}
        before = len(trip.told)
        assert main(["flow", "retry", handle.id, "--url", url, "--app", "shop"]) == 0
        await until(lambda: handle.status() == "failed")
        assert "undo left" in trip.told[before:]
        assert len([one for one in trip.told if one == "undo right"]) == 1
        assert trip.told[-1] in ("undo top", "alarm: end")
    books(handle)
    clean(app)


async def test_what_completed_runs_again_from_a_node(app: StreamQ) -> None:
    trip = Trip(app)
    async with serving(app):
        handle = await trip.wf.astart()
        await handle.aresult(20)
        trip.told.clear()
        assert not await handle.aretry()
        with pytest.raises(UsageError, match="no node 'nowhere'; it has: top, left, right, end"):
            await handle.aretry(start="nowhere")
        assert await handle.aretry(start="left")
        assert await handle.aresult(20) == "end"
        assert trip.told == ["left", "end"]
        books(handle)
        trip.told.clear()
        assert app.flows.retry(handle.id, start=["top"])
        assert await handle.aresult(20) == "end"
        assert sorted(trip.told) == ["end", "left", "right", "top"]
    books(handle)
    clean(app)


async def test_children_are_made_anew_from_a_node(app: StreamQ) -> None:
    size = [3]
    ran: list[int] = []

    @app.task
    async def listed() -> list[int]:
        return list(range(size[0]))

    @app.task(max_attempts=1)
    async def one(n: int) -> int:
        ran.append(n)
        if n == size[0]:
            raise ValueError("not this one")
        return n

    @app.task
    async def spread(ns: list[int]) -> Expand[int]:
        return Expand([one.bind(n) for n in ns])

    @app.task
    async def both(a: list[int], b: list[int]) -> list[int]:
        return a + b

    wf = app.flow("anew")
    first = wf.add(listed.bind())
    wf.add(both.bind(wf.map(one, first, name="map").output, wf.add(spread.bind(first.output)).output))
    async with serving(app):
        handle = await wf.astart()
        assert await handle.aresult(20) == [0, 1, 2] * 2
        for size[0] in (5, 2):
            ran.clear()
            assert await handle.aretry(start="listed")
            assert await handle.aresult(20) == list(range(size[0])) * 2
            assert sorted(ran) == sorted(list(range(size[0])) * 2)
            books(handle)
    assert len(list(handle.results("map"))) == 2
    clean(app)


async def test_a_tolerated_failure_of_a_map_stays_in_a_retry(app: StreamQ) -> None:
    broken = {"end"}
    ran: list[str] = []

    @app.task(max_attempts=1)
    async def one(n: int) -> int:
        ran.append(str(n))
        if n == 1:
            raise ValueError("never")
        return n

    @app.task(max_attempts=1)
    async def last(parts: list[int | Failure]) -> int:
        if "end" in broken:
            raise ValueError("not yet")
        return len(parts)

    wf = app.flow("lenient")
    wf.add(last.bind(wf.map(one, [0, 1, 2], on_error="continue").outcome))  # type: ignore[arg-type]
    async with serving(app):
        handle = await wf.astart()
        assert await ended(handle) == "failed"
        broken.clear()
        assert await handle.aretry()
        assert await handle.aresult(20) == 3
    assert sorted(ran) == ["0", "1", "2"]
    books(handle)
    clean(app)


def test_what_cannot_undo_is_told(app: StreamQ) -> None:
    trip = Trip(app)

    @app.task
    async def number(n: int) -> int:
        return n

    @app.task
    async def nothing() -> None: ...

    @app.task
    async def many() -> Expand[int]:
        return Expand([number.bind(1)])

    wf = app.flow("wrong")
    made = wf.add(number.bind(1))
    for undo, message in (
        ("refund", "pass a task type, such as refund"),
        (nothing, "takes no argument for the result of 'number'"),
        (trip.give_back, "argument what of task type 'give_back' takes str"),
        (number.bind(made.output), "is given values"),
    ):
        with pytest.raises((InvalidArguments, InvalidOption), match=message):
            wf.add(number.bind(2), undo=undo)  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="returns children"):
        wf.add(many.bind(), undo=look_of(app))
    assert repr(wf) == "<FlowGraph 'wrong' with 1 nodes>"
    handle = wf.start()
    assert [one.name for one in handle.nodes()] == ["number"]


def look_of(app: StreamQ) -> Any:
    @app.task
    async def look(found: list[int]) -> None: ...

    return look
