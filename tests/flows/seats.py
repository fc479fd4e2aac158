"""A flow that reserves seats, for the tests of maps that are undone."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, TypeVar

import pytest

from streamq import FlowFailed, FlowGraph, FlowHandle, StreamQ, get_context
from tests.flows.stage import books

_What = TypeVar("_What", int, str)


class Seats:
    """A flow that reserves seats, and the task that releases those that were reserved. broken: what fails.
    held: items whose calls wait, whoever cancels them."""

    def __init__(self, app: StreamQ) -> None:
        self.told: list[Any] = []
        self.released: list[list[str]] = []
        self.broken: set[Any] = set()
        self.held: dict[int, asyncio.Event] = {}
        self.spawning: set[int] = set()

        @app.task(max_attempts=1)
        async def reserve(n: int) -> str:
            while n in self.held and not self.held[n].is_set():
                with suppress(asyncio.CancelledError):
                    await self.held[n].wait()
            if n in self.spawning:
                get_context().spawn(pay.bind("part"))
            return f"seat {self._run(n)}"

        @app.task(max_attempts=1)
        async def release(seats: list[str]) -> None:
            self._run("release")
            self.released.append(seats)

        @app.task(max_attempts=1)
        async def numbers() -> list[int]:
            return [7, 8, 9]

        @app.task(max_attempts=1)
        async def pay(what: str = "pay") -> str:
            return self._run(what)

        @app.task
        async def pay_back(what: str) -> None:
            self._run(f"{what} back")

        self.reserve, self.release, self.numbers = reserve, release, numbers
        self.pay, self.pay_back = pay, pay_back
        self.wf: FlowGraph = app.flow("seats")

    def _run(self, what: _What) -> _What:
        if what in self.broken:
            raise ValueError(f"{what} is broken")
        self.told.append(what)
        return what

    def hold(self, *numbers: int) -> None:
        self.held |= {n: asyncio.Event() for n in numbers}

    def let_go(self, *numbers: int) -> None:
        for n in numbers:
            self.held[n].set()

    async def fails(self, handle: FlowHandle, why: str = "is broken") -> None:
        """The flow fails, and is undone."""
        with pytest.raises(FlowFailed, match=why):
            await handle.aresult(20)
        books(handle)


def seats(*numbers: int) -> list[str]:
    return [f"seat {n}" for n in numbers]
