"""Nodes whose handlers return children and one that joins them: that runs behind them, with their results."""

from __future__ import annotations

from typing import Any

import pytest

from streamq import Expand, FlowFailed, Joined, KeyRing, StreamQ
from streamq.errors import InvalidArguments
from streamq.flows.inputs import Failure
from tests.flows.stage import books, ended
from tests.running import clean, serving


class Sums:
    """A node that expands to numbers, and is their sum."""

    def __init__(self, app: StreamQ) -> None:
        self.ran: list[Any] = []
        self.broken: set[object] = set()

        @app.task(max_attempts=1)
        async def number(n: int) -> int:
            if n in self.broken:
                raise ValueError(f"{n} is broken")
            self.ran.append(n)
            return n

        @app.task(max_attempts=1, priority="high")
        async def add(parts: list[int]) -> int:
            if "add" in self.broken:
                raise ValueError("add is broken")
            self.ran.append("add")
            return sum(parts)

        @app.task(max_attempts=1)
        async def numbers(n: int) -> Joined[int]:
            self.ran.append("numbers")
            return Expand([number.bind(one) for one in range(n)]).then(add)

        @app.task(max_attempts=1)
        async def deep(n: int) -> Joined[int]:
            return Expand([numbers.bind(one) for one in range(n)]).then(add)

        @app.task
        async def shown(total: int) -> str:
            self.ran.append("shown")
            return str(total)

        self.number, self.add, self.numbers, self.deep, self.shown = number, add, numbers, deep, shown


async def test_the_join_gets_the_results_in_order_and_its_own_is_the_nodes(app: StreamQ) -> None:
    sums = Sums(app)
    wf = app.flow("sums")
    node = wf.add(sums.numbers.bind(450))
    wf.add(sums.shown.bind(wf.add(sums.number.bind(node.output)).output))
    async with serving(app):
        handle = await wf.astart()
        assert await handle.aresult(30) == str(sum(range(450)))
        assert await handle.aresult(30, returns=node.output) == sum(range(450))
        assert [one async for one in handle.aresults("numbers")] == list(range(450))
    assert sums.ran[0] == "numbers"
    assert sums.ran[451:] == ["add", sum(range(450)), "shown"]
    assert (handle.info().nodes, handle.info().done) == (454, 454)
    books(handle)
    clean(app)


async def test_of_no_children_the_join_gets_an_empty_list(app: StreamQ) -> None:
    sums = Sums(app)
    wf = app.flow("sums")
    wf.add(sums.add.bind(wf.map(sums.numbers, [0, 1, 4]).output), name="mapped")
    wf.add(sums.deep.bind(4))
    async with serving(app):
        handle = await wf.astart()
        assert await handle.aresult(30) == {"mapped": 6, "deep": 0 + 0 + 1 + 3}
        assert await handle.aresult(30, node="numbers") == [0, 0, 6]
    books(handle)
    clean(app)


@pytest.mark.parametrize("broken", [0, 3, "add"])
async def test_what_failed_and_the_join_run_again(app: StreamQ, broken: object) -> None:
    sums = Sums(app)
    sums.broken = {broken}
    wf = app.flow("sums")
    wf.add(sums.shown.bind(wf.add(sums.numbers.bind(4)).output))
    async with serving(app):
        handle = await wf.astart()
        with pytest.raises(FlowFailed, match=f"{broken} is broken"):
            await handle.aresult(20)
        assert await ended(handle) == "failed"
        assert "add" not in sums.ran
        sums.broken = set()
        assert await handle.aretry()
        assert await handle.aresult(20) == "6"
        assert sorted(map(str, sums.ran)) == ["0", "1", "2", "3", "add", "numbers", "shown"]
        assert await handle.aretry(start="numbers")
        assert await handle.aresult(20) == "6"
    assert (sums.ran.count("numbers"), sums.ran.count("add")) == (2, 2)
    books(handle)
    clean(app)


async def test_a_join_may_get_failures_or_nothing_of_the_children(app: StreamQ) -> None:
    sums = Sums(app)
    sums.broken = {1}

    @app.task
    async def kinds(parts: list[int | Failure]) -> list[str]:
        return [type(one).__name__ for one in parts]

    @app.task
    async def lenient() -> Joined[list[str]]:
        return Expand([sums.number.bind(n) for n in range(3)]).then(kinds)

    @app.task
    async def apart() -> Joined[str]:
        return Expand([sums.number.bind(2)]).then(sums.shown.bind(7))

    wf = app.flow("sums")
    wf.add(lenient.bind(), on_error="continue")
    wf.add(apart.bind())
    async with serving(app):
        handle = await wf.astart()
        assert await handle.aresult(20, node="lenient") == ["int", "Failure", "int"]
        assert await handle.aresult(20, node="apart") == "7"
    books(handle)


async def test_the_arguments_of_a_join_are_sealed(url: str) -> None:
    app = StreamQ("joined", url, keys=KeyRing(current="a", keys={"a": bytes(range(32))}))
    sums = Sums(app)
    wf = app.flow("sums")
    wf.add(sums.shown.bind(wf.add(sums.numbers.bind(3)).output))
    async with serving(app):
        assert await (await wf.astart()).aresult(20) == "3"
    app.close()


async def test_what_cannot_join_is_told(app: StreamQ) -> None:
    sums = Sums(app)

    @app.task
    async def none() -> None: ...

    @app.task(max_attempts=1)
    async def listed() -> Expand[int]:
        return Expand([sums.number.bind(1)]).then(sums.add)  # type: ignore[return-value] # pyright: ignore

    @app.task(max_attempts=1)
    async def alone() -> Joined[int]:
        return Expand([sums.number.bind(1)])  # type: ignore[return-value] # pyright: ignore

    some = Expand([sums.number.bind(1)])
    wrong: Any
    for wrong, why in ((none, "takes no argument"), (sums.shown, "takes int"), (4, "pass a task type")):
        with pytest.raises(InvalidArguments, match=why):
            some.then(wrong)
    async with serving(app):
        for task, why in ((listed, "Joined"), (alone, "Expand")):
            wf = app.flow("wrong")
            wf.add(task.bind())
            with pytest.raises(FlowFailed, match=why):
                await (await wf.astart()).aresult(20)
    clean(app)
