"""The registry: which task types an app has, with their handlers and policies. No I/O.

Owns which function has which name, and the app's settings that client and worker share. A handler itself is
in `handler`. Knows neither Redis nor how a handler is executed.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamq.errors import (
    DuplicateTaskType,
    InvalidOption,
    UnknownTaskType,
)
from streamq.hooks import NO_HOOKS, Hooks
from streamq.namespace import DEFAULT_NAMESPACE, Namespace
from streamq.options.checks import whole
from streamq.options.unique import Plan
from streamq.payloads.pipeline import Pipeline
from streamq.registry import redefinition
from streamq.registry.handler import Handler, check_name
from streamq.shards import MOST, AppRecord
from streamq.telemetry.traces import Tracer
from streamq.wording import listed


def _told(handler: Handler) -> str:
    where = redefinition.place(handler.function)
    return f"{handler.reference}, {where}" if where else handler.reference


def check_imports(names: Iterable[str]) -> tuple[str, ...]:
    """Module names as they are imported; InvalidOption for what is none."""
    if isinstance(names, str):
        raise InvalidOption(f"imports={names!r}: write several names, as [{names!r}]")
    found = tuple(dict.fromkeys(names))
    for name in found:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):  # type: ignore[redundant-expr]
            raise InvalidOption(f"{name!r:.120} names no module to import: write it as 'shop.tasks'")
    return found


class Registry:
    """The task types of one app, and what the server has last said of it (`record`, at the monotonic
    time `record_at`; None where nobody has asked it yet). `imports`: the modules that have more of them;
    `home`: where the app was made."""

    def __init__(
        self,
        name: str,
        shards: int,
        imports: Iterable[str] = (),
        namespace: Namespace = DEFAULT_NAMESPACE,
        hooks: Hooks = NO_HOOKS,
    ) -> None:
        check_name(name, "an app")
        self.name: str = namespace.app(name)
        self.imports: tuple[str, ...] = check_imports(imports)
        self.home: redefinition.Run | None = redefinition.current_run()
        self.shards: int = whole(shards, "shards", least=1)
        if shards > MOST:
            raise InvalidOption(f"shards={shards}: at most {MOST}, each worker holds a connection for each")
        self.handlers: dict[str, Handler] = {}
        self._runs: dict[str, redefinition.Run | None] = {}
        self.tracer: Tracer | None = None
        self.hooks = hooks
        self.pipeline: Pipeline | None = None
        self.record: AppRecord | None = None
        self.record_at: float = 0.0
        self.told: set[tuple[str, int]] = set()
        """The types with a rule of unique keys, and the shards, whose policies the server was told."""
        self.locks: dict[str, tuple[Plan | None, float]] = {}
        """What the server has said of unique keys of types whose code is elsewhere, and when (monotonic)."""

    def learn(self, record: AppRecord, now: float) -> AppRecord:
        self.record, self.record_at = record, now
        return record

    def add(self, handler: Handler) -> None:
        """Register a handler. The same function once more, as when its module is reloaded, replaces what
        was there; raises DuplicateTaskType where a different one has the name."""
        check_name(handler.name)
        run, before = redefinition.current_run(), self._runs.get(handler.name)
        if other := self.handlers.get(handler.name):
            again = run is not None and before is not None and run.repeats(before)
            if not redefinition.redefined(handler.function, other.function, again):
                raise DuplicateTaskType(
                    f"task type {handler.name!r} has a handler already ({_told(other)}): "
                    f"give {_told(handler)} another name with @app.task(name=...)"
                )
        self.handlers[handler.name], self._runs[handler.name] = handler, run
        self.told = {one for one in self.told if one[0] != handler.name}
        handler.app, handler.around, handler.pipeline = self.name, self.hooks.attempt, self.pipeline

    def get(self, task_type: str) -> Handler:
        try:
            return self.handlers[task_type]
        except KeyError:
            raise UnknownTaskType(
                f"app {self.name!r} has no task type {task_type!r}; it has: {listed(self.handlers)}"
            ) from None
