"""What an app's code declares around all its handlers: hooks, listeners, and replaced dependencies.

Owns these decorators. Must not know how hooks are called: `hooks` and the worker do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from streamq.hooks import TaskEnded, TaskEndedState
from streamq.registry.registry import Registry
from streamq.resources.declared import DependencyOverrides

F = TypeVar("F", bound=Callable[..., object])
Listener = TypeVar("Listener", bound=Callable[[TaskEnded], Any])


class HookDecorators:
    """Adds hooks to an app. registry: the app's."""

    registry: Registry

    def around_attempt(self, function: F, /) -> F:
        """Run a generator function around each attempt: `@app.around_attempt` above a `def` or an `async def`
        that takes the Context and yields once. As `Hook.around_attempt`."""
        self.registry.hooks.add_around_attempt(function)
        self.registry.rewrap(function.__module__)
        return function

    def around_enqueue(self, function: F, /) -> F:
        """Run a generator function around each enqueue call: it takes the call and yields once. An `async
        def` is around async calls only. As `Hook.around_enqueue`."""
        self.registry.hooks.add_around_enqueue(function)
        return function

    def on(self, *states: TaskEndedState) -> Callable[[Listener], Listener]:
        """Call a function when a worker has stored an outcome: `@app.on("dead")`. A `def` runs in a thread,
        an `async def` on the worker's event loop. What it raises is logged and harms no task."""

        def register(function: Listener) -> Listener:
            for state in states:
                self.registry.hooks.listen(state, function)
            return function

        return register

    @property
    def overrides(self) -> DependencyOverrides:
        """Replacements of dependencies, for tests: `app.overrides[session] = fake`."""
        return self.registry.resources.overrides
