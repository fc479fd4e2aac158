"""A flow, and how the tests wait for one and check its books."""

from __future__ import annotations

from collections.abc import Callable

from streamq import FlowGraph, FlowHandle, StreamQ
from streamq.flows.inputs import Failure
from tests.running import until


def books(handle: FlowHandle) -> None:
    """The numbers of a flow add up."""
    info = handle.info()
    assert info.imbalance == 0, info


def over(handle: FlowHandle) -> Callable[[], bool]:
    return lambda: handle.status() in ("completed", "failed", "cancelled")


async def ended(handle: FlowHandle) -> str:
    await until(over(handle))
    books(handle)
    return handle.status()


class Diamond:
    """A node, two that need it, and one that needs both."""

    def __init__(self, app: StreamQ) -> None:
        self.ran: list[str] = []
        self.broken: set[str] = set()

        @app.task(max_attempts=1)
        async def top(n: int) -> int:
            return self._run("top", n)

        @app.task(max_attempts=1)
        async def left(n: int) -> int:
            return self._run("left", n + 1)

        @app.task(max_attempts=1)
        async def right(n: int) -> int:
            return self._run("right", n + 2)

        @app.task(max_attempts=1)
        async def join(a: int, b: int) -> list[int]:
            return [self._run("join", a), b]

        @app.task
        async def alarm(why: Failure) -> None:
            self.ran.append(f"alarm of {why.node}: {why.error}")

        self.wf: FlowGraph = app.flow("diamond")
        first = self.wf.add(top.bind(1))
        one = self.wf.add(left.bind(first.output))
        two = self.wf.add(right.bind(first.output))
        self.wf.add(join.bind(one.output, two.output))
        self.wf.on_failure(alarm.bind(self.wf.failure))

    def _run(self, name: str, value: int) -> int:
        if name in self.broken:
            raise ValueError(f"{name} is broken")
        self.ran.append(name)
        return value
