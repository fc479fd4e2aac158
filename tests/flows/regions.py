"""A node that runs a flow of its own, as the tests of flows in flows need it."""

from __future__ import annotations

from tenacity import wait_none

from streamq import FlowHandle, StreamQ, get_context
from streamq.app.flow_graph import FlowGraph


class Regions:
    """A node that runs a flow of three nodes for its argument; `broken` fail in the last of them."""

    def __init__(self, app: StreamQ, attempts: int = 1) -> None:
        self.app = app
        self.ran: list[str] = []
        self.broken: set[str] = set()
        self.undone: list[str] = []
        self.waiting = False

        @app.task(max_attempts=1)
        async def size(name: str) -> int:
            self.ran.append(f"size {name}")
            return len(name)

        @app.task
        async def unsize(size: int) -> None:
            self.undone.append(str(size))

        @app.task(max_attempts=1)
        async def add(parts: list[int], name: str) -> int:
            self.ran.append(f"add {name}")
            if name in self.broken:
                raise ValueError(f"{name} is broken")
            return sum(parts)

        @app.task(max_attempts=attempts, backoff=wait_none())
        async def region(name: str) -> int:
            wf = app.flow("region")
            parts = [wf.add(size.bind(name * n), undo=unsize) for n in (1, 2)]
            last = wf.add(add.bind([one.output for one in parts], name))
            if self.waiting:
                wf.wait("go", after=last)
            result: int = await get_context().run_flow(wf)
            self.ran.append(f"region {name}")
            return result

        @app.task
        async def total(parts: list[int]) -> int:
            return sum(parts)

        self.region, self.total = region, total

    def child(self) -> FlowHandle:
        [found] = [one for one in self.app.flows.all() if one.name == "region"]
        return self.app.flow_handle(found.id)


def again(app: StreamQ, regions: Regions) -> FlowGraph:
    wf = app.flow("again")
    wf.add(regions.total.bind([4]))
    return wf
