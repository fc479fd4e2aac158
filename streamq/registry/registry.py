"""The task types of an app, with their handlers and policies.

Owns which function has which name, and the app's settings that client and worker share; see `handler` for a
handler. Must not do I/O, nor know how a handler is executed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from streamq.context_protocols import AnyHome
from streamq.errors import DuplicateTaskType, InvalidOption, UnknownTaskType, UsageError
from streamq.hooks import NO_HOOKS, Hooks
from streamq.namespace import DEFAULT_NAMESPACE, Namespace
from streamq.options.checks import whole
from streamq.options.names import check_imports, check_name
from streamq.payloads.pipeline import Pipeline
from streamq.registry import redefinition
from streamq.registry.batching import NoHome
from streamq.registry.handler import Handler
from streamq.resources.declared import Resources
from streamq.resources.lifespan import Lifespan
from streamq.shards import MOST, AppRecord
from streamq.telemetry.traces import Tracer
from streamq.wording import listed

if TYPE_CHECKING:
    from streamq.joining import Rules
    from streamq.payloads.blob_store import Blobs


def _shown(handler: Handler) -> str:
    where = redefinition.location(handler.function)
    return f"{handler.reference}, {where}" if where else handler.reference


def _taken(name: str, handler: Handler, other: Handler) -> str:
    """Return the message for a name that another type has, as its own or as an alias."""
    mine = "the name" if name == handler.name else "an alias"
    theirs = "the name" if name == other.name else "an alias"
    return (
        f"{name!r} is {theirs} of the task type {other.name!r} ({_shown(other)}), so it cannot be {mine} of "
        f"{handler.name!r} ({_shown(handler)})"
    )


class Registry:
    """The task types of one app. record: the app's record on the server as last read, at `record_at`
    (monotonic); None if it was not read yet. imports: the modules that define more task types. home: the
    module that created the app."""

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
            raise InvalidOption(
                f"shards={shards} must be at most {MOST}: each worker holds a connection for each shard"
            )
        self.handlers: dict[str, Handler] = {}
        self._runs: dict[str, redefinition.Run | None] = {}
        self.tracer: Tracer | None = None
        self.hooks = hooks
        self.resources: Resources = Resources()
        self.pipeline: Pipeline | None = None
        self.blobs: Blobs | None = None
        self.home_of_contexts: AnyHome | None = None
        self.record: AppRecord | None = None
        self.record_at: float = 0.0
        self.registered: set[tuple[str, int]] = set()
        """The (type, shard) of each type with unique keys whose policy was registered there."""
        self.rules: dict[str, tuple[Rules, float]] = {}
        """The rules of types whose code is in another program, and when each was read (monotonic)."""

    def forget_server(self) -> None:
        """Forget what was read from the server, and what was registered there: another one is used now."""
        self.record = None
        self.registered.clear()
        self.rules.clear()

    def learn(self, record: AppRecord, now: float) -> AppRecord:
        """Note the app's record as read from the server."""
        self.record, self.record_at = record, now
        return record

    def add(self, handler: Handler) -> None:
        """Register a handler. The same function again, as when its module is reloaded, replaces the former
        one. Raises DuplicateTaskType if another function has the name."""
        check_name(handler.name)
        if "@" in handler.name:
            raise InvalidOption(
                f"{handler.name!r}: @ is for pools. Leave it out of the name, and call .options(pool=...)"
            )
        run, before = redefinition.current_run(), self._runs.get(handler.name)
        for alias in (handler.name, *handler.options.aliases):
            other = self.handlers.get(alias)
            if other is not None and other.name != handler.name:
                raise DuplicateTaskType(_taken(alias, handler, other))
        if other := self.handlers.get(handler.name):
            again = run is not None and before is not None and run.repeats(before)
            if not redefinition.redefined(handler.function, other.function, again):
                raise DuplicateTaskType(
                    f"task type {handler.name!r} already has a handler ({_shown(other)}): "
                    f"give {_shown(handler)} another name with @app.task(name=...)"
                )
            self._forget_aliases(other)
        self.handlers[handler.name], self._runs[handler.name] = handler, run
        for pool in [one for one in self.handlers if one.startswith(f"{handler.name}@")]:
            del self.handlers[pool]  # of the function before
        self.handlers.update(dict.fromkeys(handler.options.aliases, handler))
        self.registered = {one for one in self.registered if one[0] != handler.name}
        handler.attach(self.name, self.pipeline, self.blobs)
        handler.resources = self.resources
        handler.home = self.home_of_contexts if handler.options.batch is None else NoHome()
        self._wrap(handler)

    def find(self, task_type: str) -> Handler | None:
        """Return the handler of a type, which may be that of a pool; None if it is in another program."""
        found = self.handlers.get(task_type)
        if found is None and isinstance(task_type, str):  # what a user gave
            name, mark, pool = task_type.partition("@")
            found = self.handlers[name].in_pool(pool) if mark and name in self.handlers else None
        return found

    def pooled(self, task_type: str, pool: str) -> Handler:
        """Return the handler of a type for a pool, registered so that a worker serves it."""
        found = self.get(task_type).in_pool(pool)
        check_name(found.name)
        self.handlers[found.name] = found
        self._wrap(found)
        return found

    def _forget_aliases(self, handler: Handler) -> None:
        for alias in handler.options.aliases:
            self.handlers.pop(alias, None)

    def _wrap(self, handler: Handler) -> None:
        handler.around = self.hooks.attempt
        lifespan = self.resources.lifespan
        wrapped = bool(handler.around) or lifespan is not None or handler.plan is not None
        handler.is_wrapped = wrapped or handler.options.batch is not None

    def rewrap(self, module: str) -> None:
        """Give all handlers the hooks as they are now. module: that has added one."""
        self.resources.defined_in(module)
        for handler in self.handlers.values():
            self._wrap(handler)

    def declare(self, lifespan: Lifespan[object]) -> None:
        """Set the lifespan of the app. Raises UsageError if it has another."""
        before = self.resources.lifespan
        if before is not None and not redefinition.redefined(lifespan.function, before.function, again=True):
            raise UsageError(
                f"app {self.name!r} already has the lifespan {before.name}: an app has one. Enter what "
                f"{lifespan.name} opens in it"
            )
        self.resources.lifespan = lifespan
        self.rewrap(lifespan.function.__module__)

    def declared(self, types: Iterable[str]) -> list[str]:
        """Return those of these types whose code declares a schedule."""
        return [
            name
            for name in types
            if self.handlers[name].options.schedule is not None and self.handlers[name].name == name
        ]

    def get(self, task_type: str) -> Handler:
        """Return the handler of a type. Raises UnknownTaskType."""
        try:
            return self.handlers[task_type]
        except KeyError:
            raise UnknownTaskType(
                f"app {self.name!r} has no task type {task_type!r}; it has: {listed(self.handlers)}"
            ) from None
