"""What is open for one attempt: the values of a handler's dependencies.

Owns their making before the handler, and their end after it, in reverse and with the attempt's exception.
Async ones are made on the event loop, sync ones where the handler runs. Must not open what the process keeps.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, ExitStack
from types import TracebackType
from typing import Any

from streamq.context import Context
from streamq.resources.plan import DependencyPlan, Key, Node

Manager = AbstractContextManager[object] | AbstractAsyncContextManager[object]


class _Values:
    """The values of one attempt, by number. arguments: of the handler, which get its dependencies."""

    __slots__ = ("arguments", "context", "plan", "values")

    def __init__(
        self, plan: DependencyPlan, kept: Mapping[Key, Any], context: Context, arguments: dict[str, object]
    ) -> None:
        self.plan, self.context, self.arguments = plan, context, arguments
        self.values: list[Any] = [None] * len(plan.nodes)
        for number in plan.process:
            self.values[number] = kept[plan.nodes[number].key]

    def made(self, node: Node) -> Any:
        """Call a dependency with what it needs."""
        if not node.needs and node.context is None:
            return node.make()
        given: dict[str, object] = {name: self.values[number] for name, number in node.needs}
        if node.context is not None:
            given[node.context] = self.context
        return node.make(**given)

    def fill(self) -> None:
        """Give the handler its dependencies."""
        for name, number in self.plan.arguments:
            self.arguments[name] = self.values[number]


class _OnLoop(AbstractAsyncContextManager[None]):
    """The dependencies that are made on the event loop."""

    __slots__ = ("_of", "_stack")

    def __init__(self, of: _Values) -> None:
        self._of = of
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> None:
        of = self._of
        try:
            for number in of.plan.on_loop:
                node = of.plan.nodes[number]
                made = of.made(node)
                if node.kind == "async":
                    made = await self._stack.enter_async_context(made)
                elif node.kind == "awaited":
                    made = await made
                elif node.kind == "sync":
                    made = self._stack.enter_context(made)
                of.values[number] = made
        except BaseException:
            await self._stack.__aexit__(*sys.exc_info())
            raise
        if not of.plan.in_thread:
            of.fill()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, trace)


class _InThread(AbstractContextManager[None]):
    """The dependencies that are made in the thread of a `def` handler."""

    __slots__ = ("_of", "_stack")

    def __init__(self, of: _Values) -> None:
        self._of = of
        self._stack = ExitStack()

    def __enter__(self) -> None:
        of = self._of
        try:
            for number in of.plan.in_thread:
                node = of.plan.nodes[number]
                made = of.made(node)
                of.values[number] = self._stack.enter_context(made) if node.kind == "sync" else made
        except BaseException:
            self._stack.__exit__(*sys.exc_info())
            raise
        of.fill()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)


def managers(
    plan: DependencyPlan, kept: Mapping[Key, Any], context: Context, arguments: dict[str, object]
) -> list[Manager]:
    """Return the context managers within which a handler runs. Entering them adds its dependencies to the
    arguments. kept: the values that the process keeps, all open."""
    of = _Values(plan, kept, context, arguments)
    found: list[Manager] = []
    if plan.on_loop:
        found.append(_OnLoop(of))
    if plan.in_thread:
        found.append(_InThread(of))
    if not found:
        of.fill()
    return found
