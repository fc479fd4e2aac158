"""The registry: which task types an app has, with their handlers and policies. No I/O.

Owns the binding of arguments to a handler's signature, in the caller's line when a task is enqueued
and in the worker when it runs. Knows neither Redis nor how a handler is executed.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import Any

import orjson

from streamq import convert, redefinition
from streamq.context import Context
from streamq.errors import (
    DuplicateTaskType,
    InvalidArguments,
    InvalidOption,
    PayloadError,
    UnknownTaskType,
)
from streamq.hooks import NO_HOOKS, Hooks, Manager
from streamq.model import NAME_PATTERN
from streamq.namespace import DEFAULT_NAMESPACE, Namespace
from streamq.options import TaskOptions, whole
from streamq.payloads.pipeline import Pipeline
from streamq.shards import MOST, AppRecord
from streamq.telemetry.traces import Tracer
from streamq.wording import listed


class Handler:
    """A user's function with the name and the policy of its task type. `stated`: which options the code sets,
    also to what they are by default. `app`: whose it is, empty where any app may send it. `around`: the hooks
    of its app around each attempt."""

    def __init__(
        self, name: str, function: Callable[..., Any], options: TaskOptions, stated: Iterable[str] = ()
    ) -> None:
        self.name = name
        self.function = function
        self.options = options
        self.reference: str = _reference(function)
        self._arguments = convert.Arguments(name, _signature(function), self._annotations)
        self.arguments: Callable[[bytes], tuple[tuple[object, ...], dict[str, object]]] = (
            self._arguments.decode
        )
        """payload -> what to call the function with; DecodeError where it does not fit."""
        self.retention_ms: int = round(options.retention * 1000)
        self.is_async: bool = inspect.iscoroutinefunction(function) or _is_async_object(function)
        self.stated: frozenset[str] = frozenset(stated)
        self.app = ""
        self.around: tuple[Callable[[Context], Manager], ...] = NO_HOOKS.attempt
        self.pipeline: Pipeline | None = None
        """What payloads, results and failures go through; set by the app."""
        if self.is_async and options.executor != "auto":
            raise InvalidOption(
                f"task type {name!r} is async and runs on the loop: leave out executor={options.executor!r}"
            )

    def payload(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> bytes:
        """The arguments of a call as JSON; raises InvalidArguments or PayloadError in the caller's line."""
        raw = self._arguments.encode(args, kwargs)
        return raw if len(raw) <= self.options.max_payload else self._sized(raw)

    def payload_by_name(self, given: Mapping[str, object]) -> bytes:
        """As `payload`, of arguments by name: each a value, or the JSON data of one."""
        raw = self._arguments.encode_by_name(given)
        return raw if len(raw) <= self.options.max_payload else self._sized(raw)

    def _sized(self, raw: bytes) -> bytes:
        return sized(raw, self.options.max_payload, f"the arguments of task type {self.name!r}")

    def _annotations(self) -> dict[str, object]:
        try:
            return typing.get_type_hints(_annotated(self.function), include_extras=True)
        except NameError as error:
            raise InvalidArguments(
                f"an annotation of {self.reference} names something unknown: {error}"
            ) from None

    def prepare(self) -> None:
        """Compile everything now, so that a bad annotation stops a worker at its start."""
        self._arguments.prepare()
        _ = self._result

    @cached_property
    def _result(self) -> convert.Converter:
        hint = self._annotations().get("return", Any)
        try:
            return convert.result(hint)
        except InvalidArguments as error:
            raise InvalidArguments(f"the result of task type {self.name!r}: {error}") from None

    def encode_result(self, value: object) -> bytes:
        """A handler's return value as JSON ('' for None); PayloadError where it has none, or where it would
        not be read as what the annotation says."""
        if value is None:
            return b""
        what = f"the result of task type {self.name!r}"
        try:
            raw = convert.encode_as(self._result, value, what=what)
        except (PayloadError, MemoryError):
            raise
        except Exception as error:  # whatever the value's own methods raise: the handler has done its work
            raise PayloadError(f"{what} cannot be encoded: {type(error).__name__}") from error
        raw = sized(raw, self.options.max_payload, what)
        return raw if self.pipeline is None else self.pipeline.seal(raw)

    def decode_result(self, raw: bytes) -> object:
        """The return value; DecodeError where it does not fit the annotation."""
        return self._result.read(orjson.loads(raw)) if raw else None


def sized(raw: bytes, limit: int, what: str) -> bytes:
    if len(raw) > limit:
        raise PayloadError(
            f"{len(raw):,} bytes are too many for {what}, the limit is {limit:,}: "
            "store the data elsewhere and pass a reference, or raise max_payload"
        )
    return raw


def _signature(function: Callable[..., object]) -> inspect.Signature:
    """The signature of what can be a handler; InvalidOption where it cannot."""
    if isinstance(function, str):
        raise InvalidOption(f"{function!r} is no function: write @app.task(name={function!r})")
    if not callable(function):
        raise InvalidOption(f"{function!r} is no function: put @app.task above a def or an async def")
    if inspect.isgeneratorfunction(_inner(function)) or inspect.isasyncgenfunction(_inner(function)):
        raise InvalidOption(
            f"{_reference(function)} is a generator, of which nothing would run: return a list, do not yield"
        )
    try:
        return inspect.signature(function)
    except ValueError:
        raise InvalidOption(f"{function!r} tells no signature: call it in a def of your own") from None


def _inner(function: object) -> object:
    while isinstance(function, partial):
        function = function.func
    return function


def _annotated(function: object) -> object:
    """What has the annotations: of an object that can be called, its __call__."""
    inner = _inner(function)
    return inner if inspect.isroutine(inner) or isinstance(inner, type) else type(inner).__call__


def _is_async_object(function: object) -> bool:
    return inspect.iscoroutinefunction(type(function).__call__)


def _reference(function: object) -> str:
    """`module:qualname`, of an object and a partial that of what they are made from."""
    inner = _inner(function)
    named: Any = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{named.__module__}:{named.__qualname__}"


def _told(handler: Handler) -> str:
    where = redefinition.place(handler.function)
    return f"{handler.reference}, {where}" if where else handler.reference


def check_name(name: str, what: str = "a task type") -> None:
    """Raises InvalidOption where it would not do in the keys."""
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):  # type: ignore[redundant-expr]
        raise InvalidOption(f"{name!r:.120} is no name for {what}: letters, digits, _ - . (at most 100)")


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
        handler.app, handler.around, handler.pipeline = self.name, self.hooks.attempt, self.pipeline

    def get(self, task_type: str) -> Handler:
        try:
            return self.handlers[task_type]
        except KeyError:
            raise UnknownTaskType(
                f"app {self.name!r} has no task type {task_type!r}; it has: {listed(self.handlers)}"
            ) from None
