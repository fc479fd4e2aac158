"""Which items of a map its undo task gets: those that completed, whatever became of the map or its record."""

from __future__ import annotations

import pytest

from streamq import KeyRing, StreamQ
from streamq.calls.call import Call
from streamq.keys import shard_keys
from tests.flows.seats import Seats, seats
from tests.flows.stage import books
from tests.running import clean, serving, until


async def test_a_map_that_lost_a_race_is_undone(app: StreamQ) -> None:
    """Also where its items completed only after it had lost."""
    one = Seats(app)
    one.broken = {"pay"}
    one.hold(2, 3, 4)
    one.spawning = {4}
    raced = one.wf.map(one.reserve, [1, 2], undo=one.release)
    late = one.wf.map(one.reserve, [3, 4], name="late", undo=one.release)
    race = one.wf.first(raced, late, one.wf.wait("go"))
    one.wf.add(one.pay.bind(), after=race)
    async with serving(app):
        handle = await one.wf.astart()
        await until(lambda: handle.info().done == 1)
        assert handle.signal("go", 1) == "delivered"
        await until(lambda: handle.status() == "failing")
        one.let_go(2, 3, 4)
        await one.fails(handle, "pay is broken")
        assert sorted(one.released) == [seats(1, 2), seats(3, 4)]
        # What was undone runs again, and with it the race that it is in.
        one.broken.clear()
        assert await handle.aretry()
        assert await handle.aresult(20) == "pay"
    assert len(one.released) == 2
    books(handle)
    clean(app)


async def test_a_node_that_completed_after_it_lost_a_race_is_undone(app: StreamQ) -> None:
    one = Seats(app)
    one.broken = {"pay"}
    one.hold(1)
    race = one.wf.first(one.wf.add(one.reserve.bind(1), undo=one.pay_back), one.wf.wait("go"))
    one.wf.add(one.pay.bind(), after=race)
    async with serving(app):
        handle = await one.wf.astart()
        assert await handle.asignal("go", 1) == "delivered"
        await until(lambda: handle.status() == "failing")
        one.let_go(1)
        await one.fails(handle, "pay is broken")
    assert one.told == [1, "seat 1 back"]
    clean(app)


async def test_a_map_that_goes_on_after_failures_gives_back_what_completed(app: StreamQ) -> None:
    one = Seats(app)
    one.broken = {1, "pay"}
    each = one.wf.map(one.reserve, [0, 1, 2], on_error="continue", undo=one.release)
    one.wf.add(one.pay.bind(), after=each)
    async with serving(app):
        handle = await one.wf.astart()
        await one.fails(handle, "pay is broken")
        assert one.released == [seats(0, 2)]
        one.broken.clear()
        assert await handle.aretry()
        assert await handle.aresult(20) == "pay"
    assert list(handle.results("reserve")) == seats(0, 1, 2)
    clean(app)


@pytest.mark.parametrize("field", ["maps", "grown"])
async def test_a_record_that_lost_the_items_is_told(app: StreamQ, field: str) -> None:
    """Nothing is passed over in silence."""
    one = Seats(app)
    one.hold(2)
    one.wf.map(one.reserve, [1, 2], undo=one.release)
    async with serving(app):
        handle = await one.wf.astart()
        await until(lambda: handle.info().done == 1)
        record = shard_keys(app.name, 0).flow(handle.id.rpartition(":")[2])
        app._client.transport.run(
            Call(None, (record,), ("HSET", record, field, "0:999999:2"), lambda reply: reply)
        )
        assert await handle.acancel()
        one.let_go(2)
        if field == "grown":
            await until(lambda: handle.status() == "cancelled")
            assert one.released == [seats(1, 2)]
        else:
            await until(lambda: handle.status() == "stuck")
            assert one.released == []


async def test_an_item_that_waits_for_what_it_spawned_is_undone(app: StreamQ) -> None:
    """Its handler has completed."""
    one = Seats(app)
    one.broken, one.spawning = {"part"}, {2}
    one.wf.map(one.reserve, [1, 2, 3], undo=one.release)
    async with serving(app):
        handle = await one.wf.astart()
        await until(lambda: handle.status() == "failed")
        assert one.released == [seats(1, 2, 3)]
        one.broken.clear()
        assert await handle.aretry()
        assert await handle.aresult(20) == seats(1, 2, 3)
    books(handle)
    clean(app)


async def test_an_item_that_completes_by_hand_after_the_undo(app: StreamQ) -> None:
    """It stays in the retry, as nobody has undone it, and is undone with the others when that fails."""
    one = Seats(app)
    one.broken = {1, "pay"}
    one.hold(1)
    one.wf.add(one.pay.bind(), after=one.wf.map(one.reserve, [0, 1, 2], undo=one.release))
    async with serving(app):
        handle = await one.wf.astart()
        await until(lambda: handle.info().done == 2)
        one.let_go(1)
        await one.fails(handle)
        assert one.released == [seats(0, 2)]
        one.broken = {"pay"}
        [dead] = app.inspector.tasks("dead", "reserve").rows
        assert app.admin.requeue([str(dead.id)]) == 1
        await until(lambda: handle.info().failed == 0)
        one.told.clear()
        assert await handle.aretry()
        await one.fails(handle, "pay is broken")
        assert sorted(map(str, one.told)) == ["0", "2", "release"]
        assert one.released == [seats(0, 2), seats(0, 1, 2)]
        # It is as the others from now on.
        one.broken.clear()
        one.told.clear()
        assert await handle.aretry()
        assert await handle.aresult(20) == "pay"
    assert sorted(map(str, one.told)) == ["0", "1", "2", "pay"]
    books(handle)
    clean(app)


async def test_sealed_results_are_given_back(url: str) -> None:
    pytest.importorskip("cryptography")
    app = StreamQ("shop", url, keys=KeyRing(current="a", keys={"a": b"0" * 32}))
    one = Seats(app)
    one.broken = {"pay"}
    one.wf.add(one.pay.bind(), after=one.wf.map(one.reserve, range(3), undo=one.release))
    async with serving(app):
        await one.fails(await one.wf.astart(), "failed: node 'pay'")
    assert one.released == [seats(0, 1, 2)]
    clean(app)
