"""Maps that are undone: one call takes back all items that completed, in the turn of the map."""

from __future__ import annotations

import pytest

from streamq import Expand, FlowCancelled, StreamQ
from streamq.errors import InvalidArguments, InvalidOption
from tests.flows.seats import Seats, seats
from tests.flows.stage import books, ended
from tests.running import clean, serving, until


async def test_a_map_that_completed_is_undone_with_one_call(app: StreamQ) -> None:
    one = Seats(app)
    # More than one call reads, and ends in another order than that of the items.
    each = one.wf.map(one.reserve, range(620), undo=one.release)
    one.wf.add(one.pay.bind(), after=each)
    one.broken = {"pay"}
    async with serving(app):
        handle = await one.wf.astart()
        await one.fails(handle, "pay is broken")
    assert one.released == [seats(*range(620))]
    assert {node.name: node.state for node in handle.nodes()}["undo-reserve"] == "completed"
    clean(app)


async def test_of_a_map_that_failed_is_undone_what_completed(app: StreamQ) -> None:
    one = Seats(app)
    one.broken = {2}
    one.hold(2)
    one.wf.map(one.reserve, range(5), undo=one.release)
    async with serving(app):
        handle = await one.wf.astart()
        await until(lambda: handle.info().done == 4)
        one.let_go(2)
        await one.fails(handle, "2 is broken")
        assert await ended(handle) == "failed"
        assert one.released == [seats(0, 1, 3, 4)]
        # The retry makes anew what was undone.
        one.broken.clear()
        one.told.clear()
        assert await handle.aretry()
        assert await handle.aresult(20) == seats(*range(5))
    assert sorted(one.told) == [0, 1, 2, 3, 4]
    books(handle)
    clean(app)


@pytest.mark.parametrize("undo", [True, False])
async def test_a_map_of_a_flow_that_is_cancelled(app: StreamQ, undo: bool) -> None:
    one = Seats(app)
    last = one.wf.map(one.reserve.options(delay="1h"), [4, 5], name="later", undo=one.release)
    one.wf.map(one.reserve, range(4), undo=one.release)
    one.hold(1)
    assert last.name == "later"
    async with serving(app):
        handle = await one.wf.astart()
        await until(lambda: handle.info().done == 3)
        assert await handle.acancel(undo=undo)
        one.let_go(1)  # it ran when the flow was cancelled, and completes
        with pytest.raises(FlowCancelled):
            await handle.aresult(20)
    assert one.released == ([seats(0, 1, 2, 3)] if undo else [])
    books(handle)
    clean(app)


async def test_what_was_kept_by_a_retry_is_undone_later(app: StreamQ) -> None:
    one = Seats(app)
    one.broken = {1}
    one.wf.add(one.pay.bind(), after=one.wf.map(one.reserve, range(3), undo=one.release))
    one.hold(0, 1, 2)
    one.let_go(0, 2)
    async with serving(app):
        handle = await one.wf.astart()
        await until(lambda: handle.info().done == 2)
        assert await handle.acancel(undo=False)
        one.let_go(1)
        with pytest.raises(FlowCancelled):
            await handle.aresult(20)
        assert one.released == []
        one.broken = {"pay"}
        assert await handle.aretry()
        await one.fails(handle)
    assert one.released == [seats(0, 1, 2)]
    assert sorted(map(str, one.told)) == ["0", "1", "2", "release"]
    clean(app)


async def test_nothing_is_undone_where_no_item_completed(app: StreamQ) -> None:
    one = Seats(app)
    one.broken = {1, 2, "pay"}
    maps = [
        one.wf.map(one.reserve, [], undo=one.release),
        one.wf.map(one.reserve, [1, 2], on_error="continue", undo=one.release.bind(["all"])),
    ]
    one.wf.add(one.pay.bind(), after=maps)
    one.wf.map(one.reserve, [3], after=one.wf.sleep("1h"), undo=one.release)
    async with serving(app):
        handle = await one.wf.astart()
        await one.fails(handle, "pay is broken")
    assert one.told == one.released == []
    clean(app)


async def test_the_turn_of_a_map_is_by_its_end(app: StreamQ) -> None:
    """That of one that did not complete, by the first of its items."""
    one = Seats(app)
    one.broken = {"end"}
    one.hold(2, 5)
    top = one.wf.add(one.pay.bind("top"), undo=one.pay_back)
    each = one.wf.map(one.reserve, [1, 2], after=top, undo=one.release)
    one.wf.map(one.reserve, [4, 5], name="cut", after=top, undo=one.release)
    side = one.wf.add(one.pay.bind("side"), after=each, undo=one.pay_back)
    one.wf.add(one.pay.bind("end"), after=[each, side])
    async with serving(app):
        handle = await one.wf.astart()
        await until(lambda: handle.info().done == 3)
        one.let_go(2)
        await until(lambda: handle.status() == "failing")
        one.let_go(5)
        await one.fails(handle, "end is broken")
    assert [what for what in one.told if not isinstance(what, int)][2:] == [
        "side back", "release", "release", "top back",
    ]  # fmt: skip
    assert one.released == [seats(1, 2), seats(4, 5)]
    clean(app)


async def test_a_call_undoes_a_map(app: StreamQ) -> None:
    one = Seats(app)

    @app.task
    async def spread(n: int) -> Expand[str]:
        return Expand([one.reserve.bind(n)])

    one.broken = {"pay"}
    each = one.wf.map(spread, [1, 2], undo=one.pay_back.bind("all"))
    one.wf.add(one.pay.bind(), after=each)
    async with serving(app):
        await one.fails(await one.wf.astart())
    assert one.told[2:] == ["all back"]
    clean(app)


async def test_a_map_over_what_a_node_returned_is_undone_and_made_anew(app: StreamQ) -> None:
    one = Seats(app)
    one.broken = {"pay"}
    listed = one.wf.add(one.numbers.bind())
    each = one.wf.map(one.reserve, listed, undo=one.release)
    one.wf.add(one.pay.bind(), after=each)
    async with serving(app):
        handle = await one.wf.astart()
        await one.fails(handle)
        assert await handle.aretry()
        await one.fails(handle)
        assert one.released == [seats(7, 8, 9)] * 2
        one.broken.clear()
        assert await handle.aretry()
        assert await handle.aresult(20) == "pay"
    assert len(one.released) == 2
    assert sorted(map(str, one.told)) == [*"777888999", "pay", "release", "release"]
    books(handle)
    clean(app)


async def test_a_failed_undo_of_a_map_is_told_and_tried_again(app: StreamQ) -> None:
    one = Seats(app)
    one.broken = {"pay", "release"}
    one.wf.add(one.pay.bind(), after=one.wf.map(one.reserve, [1, 2], undo=one.release))
    async with serving(app):
        handle = await one.wf.astart()
        await one.fails(handle, r"is stuck: its undo failed in node 'undo-reserve' .*release is broken")
        assert handle.status() == "stuck"
        assert app.flows.part(handle.id).stuck is not None
        one.broken = {"pay"}
        assert await handle.aretry()
        await until(lambda: handle.status() == "failed")
    assert one.released == [seats(1, 2)]
    clean(app)


def test_what_cannot_undo_a_map_is_told(app: StreamQ) -> None:
    one = Seats(app)

    @app.task
    async def single(seat: str) -> None: ...

    @app.task
    async def nothing() -> None: ...

    @app.task
    async def many(n: int) -> Expand[str]:
        return Expand([one.reserve.bind(n)])

    made = one.wf.add(one.numbers.bind())
    for undo, message in (
        ("refund", "pass a task type, such as refund"),
        (nothing, "takes no argument for the result of 'reserve'.*undo=nothing.bind"),
        (single, "argument seat of task type 'single' takes str"),
        (one.release.bind(made.output), "is given values"),  # type: ignore[arg-type]
    ):
        with pytest.raises((InvalidArguments, InvalidOption), match=message):
            one.wf.map(one.reserve, [1], undo=undo)  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="returns children"):
        one.wf.map(many, [1], undo=one.release)
    assert repr(one.wf) == "<FlowGraph 'seats' with 1 nodes>"
