"""Nodes without a task: timers, waits for signals, races. They take no slot, and no loser holds them up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamq import FlowCancelled, FlowFailed, KeyRing, StreamQ
from streamq.calls import flows as calls
from streamq.calls import question as question_calls
from streamq.cli import main
from streamq.errors import InvalidArguments, InvalidOption, PayloadError, UsageError
from streamq.flows.advancing import advance
from streamq.keys import shard_keys
from tests.conftest import command
from tests.flows.stage import books, ended
from tests.running import clean, serving, until


class Desk:
    """Task types that note their calls."""

    def __init__(self, app: StreamQ) -> None:
        self.ran: list[Any] = []
        self.gate = asyncio.Event()

        @app.task(max_attempts=1)
        async def note(what: Any = None) -> Any:
            self.ran.append(what)
            return what

        @app.task(max_attempts=1)
        async def slow(what: str) -> str:
            self.ran.append(what)
            await self.gate.wait()
            return what

        @app.task(max_attempts=1)
        async def broken() -> None:
            raise ValueError("broken")

        self.note, self.slow, self.broken = note, slow, broken


async def test_a_timer_holds_up_what_waits_for_it(app: StreamQ) -> None:
    desk = Desk(app)
    wf = app.flow("later")
    pause = wf.sleep("200ms", after=wf.add(desk.note.bind("before")))
    wf.add(desk.note.bind("after"), after=pause)
    async with serving(app):
        began = _now(app)
        handle = await wf.astart()
        assert await handle.aresult(20) == "after"
        assert _now(app) - began >= 200
    assert desk.ran == ["before", "after"]
    assert [(one.kind, one.state) for one in handle.nodes()][1] == ("sleep", "completed")
    books(handle)
    clean(app)


def _now(app: StreamQ) -> int:
    return app._client.transport.run(question_calls.now(shard_keys(app.name, 0).inbox))


def test_a_timer_does_not_end_before_its_time(app: StreamQ, url: str) -> None:
    wf = app.flow("later")
    wf.sleep("1h")
    handle = wf.start()
    s, local = shard_keys(app.name, 0), handle.id.rpartition(":")[2]
    app._client.drive(advance(s, local, ["0 t"]))
    assert handle.info().released == 1
    assert command(url, "ZSCORE", s.inbox, f"{local} 0 t")
    assert app._client.transport.run(calls.behind(s, 0, 10)).rows == []
    clean(app)
    command(url, "ZADD", s.inbox, 1, f"{local} 0 t")
    app._client.drive(advance(s, local, ["0 t"]))
    assert handle.result(1) is None
    assert handle.status() == "completed"
    books(handle)
    clean(app)


def test_the_end_of_a_flow_takes_its_timers_away(app: StreamQ, url: str) -> None:
    wf = app.flow("later")
    wf.sleep("1h")
    wf.wait("go", timeout="1h")
    handle = wf.start()
    assert handle.cancel()
    assert handle.status() == "cancelled"
    assert command(url, "ZCARD", shard_keys(app.name, 0).inbox) == 0
    assert handle.retry()
    assert [one.state for one in handle.nodes()] == ["released", "released"]
    assert command(url, "ZCARD", shard_keys(app.name, 0).inbox) == 2
    books(handle)
    clean(app)


@pytest.mark.parametrize("early", [True, False])
async def test_a_signal_is_taken_once(app: StreamQ, early: bool) -> None:
    desk = Desk(app)
    wf = app.flow("approve")
    start = wf.add(desk.slow.bind("start"))
    yes = wf.wait("approved", dict, after=start)
    again = wf.wait("approved", dict, after=yes)
    wf.add(desk.note.bind([yes.output]), name="told")
    async with serving(app):
        handle = await wf.astart()
        await until(lambda: desk.ran == ["start"])
        if early:
            assert await handle.asignal("approved", {"by": "ada"}) == "stored"
        desk.gate.set()
        if not early:
            await until(lambda: handle.nodes()[1].state == "released")
            assert await handle.asignal("approved", {"by": "ada"}) == "delivered"
        await until(lambda: len(desk.ran) == 2)
        assert desk.ran[1] == [{"by": "ada"}]
        assert [one.state for one in handle.nodes()][2] == "released"
        books(handle)
        clean(app)
        assert await handle.asignal("approved", {"by": "bob"}) == "delivered"
        found = await handle.aresult(20)
        assert found == {again.name: {"by": "bob"}, "told": [{"by": "ada"}]}
        assert await handle.asignal("approved") == "too late"
    books(handle)
    clean(app)


async def test_a_signal_that_is_sent_again_counts_once(app: StreamQ) -> None:
    wf = app.flow("approve")
    wf.wait("go", after=wf.wait("go"))
    handle = wf.start()
    s, local = shard_keys(app.name, 0), handle.id.rpartition(":")[2]
    call = calls.signal(s, local, "go", b"1", "0123456789abcdef")
    assert [app._client.transport.run(call) for _ in range(2)] == ["delivered", "stored"]
    assert [one.state for one in handle.nodes()] == ["completed", "released"]
    clean(app)


async def test_a_wait_that_is_late_fails(app: StreamQ) -> None:
    desk = Desk(app)
    wf = app.flow("late")
    wf.add(desk.note.bind(1), after=wf.wait("go", timeout="100ms"))
    lenient = app.flow("lenient")
    lenient.add(desk.note.bind(lenient.wait("go", timeout="100ms", on_error="continue").outcome))
    async with serving(app):
        handle = await wf.astart()
        with pytest.raises(FlowFailed, match="node 'wait' .*the signal go has not come in time"):
            await handle.aresult(20)
        passed = await lenient.astart()
        found = await passed.aresult(20)
        assert found["state"] == "expired"
        assert await handle.aretry()
        assert await handle.asignal("go") == "delivered"
        assert await handle.aresult(20) == 1
    books(handle)
    clean(app)


async def test_the_first_wins_and_the_others_go(app: StreamQ) -> None:
    desk = Desk(app)
    wf = app.flow("race")
    shared = wf.add(desk.note.bind("shared"))
    losing = wf.add(desk.note.bind("left"), after=wf.sleep("1h", name="pause", after=shared), name="losing")
    slow = wf.add(desk.slow.bind("slow"), after=shared, name="slow")
    go = wf.wait("go", after=shared)
    wf.add(desk.note.bind([wf.first(losing, slow, go).output]), name="end")
    async with serving(app):
        handle = await wf.astart()
        await until(lambda: "slow" in desk.ran)
        assert await handle.asignal("go", 7) == "delivered"
        assert await handle.aresult(20) == [7]
        states = {one.name: one.state for one in handle.nodes()}
        assert states == {
            "note": "completed",
            "pause": "skipped",
            "losing": "skipped",
            "slow": "skipped",
            "wait": "completed",
            "first": "completed",
            "end": "completed",
        }
        assert await handle.aresult(20, node="first") == 7
        books(handle)
        clean(app)
        # A retry from behind the race leaves it decided.
        assert await handle.aretry(start="end")
        assert await handle.aresult(20) == [7]
    assert "left" not in desk.ran
    books(handle)
    clean(app)


async def test_a_task_wins_against_a_timer(app: StreamQ) -> None:
    desk = Desk(app)
    wf = app.flow("race")
    wf.first(wf.add(desk.note.bind("quick")), wf.sleep("1h"))
    async with serving(app):
        handle = await wf.astart()
        assert await handle.aresult(20) == "quick"
    books(handle)
    clean(app)


def test_a_map_that_has_not_begun_loses_with_its_children(app: StreamQ) -> None:
    desk = Desk(app)
    wf = app.flow("race")
    each = wf.map(desk.note, [1, 2, 3], after=wf.sleep("1h"))
    wf.first(each, wf.wait("go"))
    handle = wf.start()
    assert handle.signal("go", "won") == "delivered"
    assert handle.result(5) == "won"
    assert handle.status() == "completed"
    books(handle)
    clean(app)


async def test_a_daemon_cancels_a_loser_that_nobody_else_does(app: StreamQ) -> None:
    desk = Desk(app)
    wf = app.flow("race")
    wf.first(wf.add(desk.slow.bind("slow")), wf.wait("go"))
    handle = wf.start()
    async with serving(app):
        await until(lambda: desk.ran == ["slow"])
        s, local = shard_keys(app.name, 0), handle.id.rpartition(":")[2]
        assert app._client.transport.run(calls.signal(s, local, "go", b"1", "0" * 16)) == "delivered"
        assert await handle.aresult(20) == 1
    books(handle)
    clean(app)


@pytest.mark.parametrize("tolerated", [True, False])
async def test_a_race_that_nobody_wins_fails(app: StreamQ, tolerated: bool) -> None:
    desk = Desk(app)
    wf = app.flow("race")
    both = [wf.add(desk.broken.bind(), on_error="continue") for _ in range(2)]
    race = wf.first(*both, on_error="continue" if tolerated else "fail")
    wf.add(desk.note.bind([race.outcome]), name="end")
    async with serving(app):
        handle = await wf.astart()
        if tolerated:
            [found] = await handle.aresult(20)
            assert found["state"] == "dead"
        else:
            with pytest.raises(FlowFailed, match="none of those that it waits for has completed"):
                await handle.aresult(20)
            assert await ended(handle) == "failed"
    books(handle)
    clean(app)


async def test_the_loser_of_a_flow_that_is_cancelled(app: StreamQ) -> None:
    desk = Desk(app)
    wf = app.flow("race")
    race = wf.first(wf.add(desk.slow.bind("slow")), wf.sleep("1h"))
    wf.add(desk.note.bind("end"), after=race)
    async with serving(app):
        handle = await wf.astart()
        await until(lambda: desk.ran == ["slow"])
        assert await handle.acancel()
        with pytest.raises(FlowCancelled):
            await handle.aresult(20)
    books(handle)
    clean(app)


def test_sealed_signals(url: str) -> None:
    app = StreamQ("shop", url, keys=KeyRing(current="a", keys={"a": bytes(range(32))}))
    wf = app.flow("approve")
    wf.wait("go")
    handle = wf.start()
    assert handle.signal("go", {"secret": "value"}) == "delivered"
    s, local = shard_keys(app.name, 0), handle.id.rpartition(":")[2]
    assert "secret" not in str(command(url, "HGET", s.flow(local), "v0"))
    assert handle.result(5) == {"secret": "value"}
    app.close()


def test_the_command(app: StreamQ, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    wf = app.flow("approve")
    wf.wait("go")
    handle = wf.start()

    def streamq(*args: str, code: int = 0) -> str:
        assert main(["flow", "signal", *args, "--url", url, "--app", "shop"]) == code
        told = capsys.readouterr()
        return told.out + told.err

    assert "it waits for: go" in streamq(handle.id, "stop", code=2)
    assert "is not JSON" in streamq(handle.id, "go", "yes", code=2)
    assert "has ended" in streamq(handle.id, "go", '{"by": "ada"}')
    assert "too late" in streamq(handle.id, "go", code=1)
    assert "unknown flow" in streamq("approve:0:1764547200000-402938475610", "go", code=3)
    assert handle.result(5) == {"by": "ada"}
    assert [one.verb for one in app.inspector.actions()] == ["signal flow"]


def test_what_cannot_be_waited_for_is_told(app: StreamQ) -> None:
    desk = Desk(app)
    wf = app.flow("wrong")
    one, two = wf.add(desk.note.bind(1)), wf.add(desk.note.bind(2))
    three = wf.add(desk.note.bind(3), after=one)
    with pytest.raises(InvalidOption, match="duration"):
        wf.sleep("soon")
    with pytest.raises(InvalidOption, match="name for a signal"):
        wf.wait("")
    with pytest.raises(InvalidOption, match="timeout"):
        wf.wait("go", timeout=-1)
    with pytest.raises(InvalidArguments, match="takes at least two nodes"):
        wf.first(two)
    with pytest.raises(InvalidArguments, match="is not a node"):
        wf.first(two, "three")  # type: ignore[call-overload]
    with pytest.raises(InvalidOption, match="node 'note-3' waits for 'note', which may be skipped"):
        wf.first(one, two)
    wf.first(two, three, name="race")
    with pytest.raises(InvalidOption, match="'note-2' may be skipped, as it takes part in 'race'"):
        wf.add(desk.note.bind(two.output))
    wf.wait("go")
    handle = wf.start()
    with pytest.raises(UsageError, match="does not wait for a signal 'stop': it waits for: go"):
        handle.signal("stop")
    with pytest.raises(PayloadError, match="over the limit"):
        handle.signal("go", "x" * 70_000)
    assert app.flow_handle("wrong:0:1764547200000-402938475610").signal("go") == "unknown"


def test_a_flow_keeps_so_many_signals(app: StreamQ) -> None:
    desk = Desk(app)
    wf = app.flow("full")
    wf.wait("go", after=wf.add(desk.note.bind(1)))
    handle = wf.start()
    s, local = shard_keys(app.name, 0), handle.id.rpartition(":")[2]
    for n in range(100):
        assert app._client.transport.run(calls.signal(s, local, "go", b"1", f"{n:016d}")) == "stored"
    with pytest.raises(PayloadError, match="has 100 of that name"):
        handle.signal("go")
