"""The registry: which task types an app has, with their handlers and policies. No I/O.

Owns the binding of arguments to a handler's signature, in the caller's line when a task is enqueued
and in the worker when it runs. Knows neither Redis nor how a handler is executed.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import Any, Final

import orjson

from streamq import convert
from streamq.errors import (
    DecodeError,
    DuplicateTaskType,
    InvalidArguments,
    InvalidOption,
    PayloadError,
    UnknownTaskType,
)
from streamq.model import NAME_PATTERN
from streamq.namespace import DEFAULT_NAMESPACE, Namespace
from streamq.options import TaskOptions, whole
from streamq.shards import MOST, AppRecord
from streamq.telemetry.traces import Tracer

_PLAIN: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Handler:
    """A user's function with the name and the policy of its task type. `stated`: which options the code sets,
    also to what they are by default. `app`: whose it is, empty where any app may send it."""

    def __init__(
        self, name: str, function: Callable[..., Any], options: TaskOptions, stated: Iterable[str] = ()
    ) -> None:
        self.name = name
        self.function = function
        self.options = options
        self.reference = _reference(function)
        self._signature = _signature(function)
        self.retention_ms = round(options.retention * 1000)
        self.is_async = inspect.iscoroutinefunction(function) or _is_async_object(function)
        self.stated = frozenset(stated)
        self.app = ""
        parameters = self._signature.parameters.values()
        self._positional = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
        self._names = {p.name for p in parameters}
        self._required = {p.name for p in parameters if p.default is p.empty}
        self._simple = all(p.kind in _PLAIN for p in parameters)
        self._what = f"the arguments of task type {name!r}"
        if self.is_async and options.executor != "auto":
            raise InvalidOption(
                f"task type {name!r} is async and runs on the loop: leave out executor={options.executor!r}"
            )

    def payload(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The arguments of a call as JSON; raises InvalidArguments or PayloadError in the caller's line."""
        return self.encode(self._bind(args, kwargs))

    def encode(self, arguments: Mapping[str, Any]) -> bytes:
        raw = convert.encode(arguments, what=self._what, non_str_keys=self._non_str_keys)
        return sized(raw, self.options.max_payload, self._what)

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        if self._simple and len(args) <= len(self._positional):
            # inspect's own binding costs more than all the rest of an enqueue.
            bound = dict(zip(self._positional, args, strict=False))
            if not kwargs and len(bound) == len(self._names):
                return bound
            if not (bound.keys() & kwargs.keys()) and kwargs.keys() <= self._names:
                bound.update(kwargs)
                if self._required <= bound.keys():
                    return bound
        return self._bind_slowly(args, kwargs)

    def _bind_slowly(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidArguments(f"{self.name}{self._signature} cannot take this call: {error}") from None
        return dict(bound.arguments)

    def arguments(self, payload: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What to call the handler with; DecodeError (reason `arguments`) where the payload does not fit."""
        try:
            given = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise DecodeError(f"the payload is not JSON: {error}") from None
        if not isinstance(given, dict):
            raise DecodeError("the payload is not a JSON object of the arguments by name")
        if given.keys() != self._names:
            self._check_names(given)
        name = ""
        try:
            for name, decode in self._decoders.items():
                if name in given:
                    given[name] = decode(given[name])
        except DecodeError as error:
            raise DecodeError(f"argument {name}: {error}", reason=error.reason) from None
        return ((), given) if self._simple else self._split(given)

    def _check_names(self, given: dict[str, Any]) -> None:
        missing, extra = self._required - given.keys(), given.keys() - self._names
        missing -= (
            {
                p.name
                for p in self._signature.parameters.values()
                if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
            }
            if missing
            else set()
        )
        if missing or extra:
            parts = [
                f"{' and '.join(sorted(names))} {word}"
                for names, word in ((missing, "missing"), (extra, "unknown"))
                if names
            ]
            raise DecodeError(
                f"the payload does not fit {self.name}{self._signature}: {', '.join(parts)}",
                reason="arguments",
            )

    def _split(self, given: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter in self._signature.parameters.values():
            if parameter.name not in given:
                continue
            value = given[parameter.name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                args.extend(value)
            elif parameter.kind is parameter.VAR_KEYWORD:
                kwargs.update(value)
            elif parameter.kind is parameter.KEYWORD_ONLY:
                kwargs[parameter.name] = value
            else:
                args.append(value)
        return tuple(args), kwargs

    @cached_property
    def _hints(self) -> dict[str, Any]:
        # At first use, not at registration: an annotation may name a class defined further down.
        try:
            return typing.get_type_hints(_annotated(self.function), include_extras=True)
        except NameError as error:
            raise InvalidArguments(
                f"an annotation of {self.reference} names something unknown: {error}"
            ) from None

    @cached_property
    def _decoders(self) -> dict[str, Callable[[object], object]]:
        found: dict[str, Callable[[object], object]] = {}
        for parameter in self._signature.parameters.values():
            annotation = self._hints.get(parameter.name)
            if parameter.kind is parameter.VAR_POSITIONAL and annotation is not None:
                annotation = types.GenericAlias(list, (annotation,))
            elif parameter.kind is parameter.VAR_KEYWORD and annotation is not None:
                annotation = types.GenericAlias(dict, (str, annotation))
            decode = None if annotation is None else convert.decoder(annotation)
            if decode is not None:
                found[parameter.name] = decode
        return found

    @cached_property
    def _non_str_keys(self) -> bool:
        return any(convert.wants_non_str_keys(hint) for hint in self._hints.values())

    @cached_property
    def _result_decoder(self) -> Callable[[object], object] | None:
        hint = self._hints.get("return")
        return None if hint is None else convert.decoder(hint)

    def prepare(self) -> None:
        """Compile everything now, so that a bad annotation stops a worker at its start."""
        _ = self._decoders, self._non_str_keys

    def encode_result(self, value: object) -> bytes:
        """A handler's return value as JSON ('' for None); PayloadError where it has none."""
        if value is None:
            return b""
        what = f"the result of task type {self.name!r}"
        return sized(convert.encode(value, what=what, non_str_keys=True), self.options.max_payload, what)

    def decode_result(self, raw: bytes) -> Any:
        value = orjson.loads(raw) if raw else None
        decode = self._result_decoder
        return value if decode is None else decode(value)


def sized(raw: bytes, limit: int, what: str) -> bytes:
    if len(raw) > limit:
        raise PayloadError(
            f"{len(raw):,} bytes are too many for {what}, the limit is {limit:,}: "
            "store the data elsewhere and pass a reference, or raise max_payload"
        )
    return raw


def _signature(function: Callable[..., Any]) -> inspect.Signature:
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


def _inner(function: Any) -> Any:
    while isinstance(function, partial):
        function = function.func
    return function


def _annotated(function: Any) -> Any:
    """What has the annotations: of an object that can be called, its __call__."""
    inner = _inner(function)
    return inner if inspect.isroutine(inner) or isinstance(inner, type) else type(inner).__call__


def _is_async_object(function: Any) -> bool:
    return inspect.iscoroutinefunction(type(function).__call__)


def _reference(function: Any) -> str:
    """`module:qualname`, of an object and a partial that of what they are made from."""
    inner = _inner(function)
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{named.__module__}:{named.__qualname__}"


def check_name(name: str, what: str = "a task type") -> None:
    """Raises InvalidOption where it would not do in the keys."""
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):  # type: ignore[redundant-expr]
        raise InvalidOption(f"{name!r:.120} is no name for {what}: letters, digits, _ - . (at most 100)")


class Registry:
    """The task types of one app, and what the server has last said of it (`record`, at the monotonic
    time `record_at`; None where nobody has asked it yet)."""

    def __init__(self, name: str, shards: int, namespace: Namespace = DEFAULT_NAMESPACE) -> None:
        check_name(name, "an app")
        self.name = namespace.app(name)
        self.shards = whole(shards, "shards", least=1)
        if shards > MOST:
            raise InvalidOption(f"shards={shards}: at most {MOST}, each worker holds a connection for each")
        self.handlers: dict[str, Handler] = {}
        self.tracer: Tracer | None = None
        self.record: AppRecord | None = None
        self.record_at = 0.0

    def learn(self, record: AppRecord, now: float) -> AppRecord:
        self.record, self.record_at = record, now
        return record

    def add(self, handler: Handler) -> None:
        """Raises DuplicateTaskType where the name is taken."""
        check_name(handler.name)
        if other := self.handlers.get(handler.name):
            raise DuplicateTaskType(
                f"task type {handler.name!r} has a handler already ({other.reference}): "
                f"give {handler.reference} another name with @app.task(name=...)"
            )
        self.handlers[handler.name] = handler
        handler.app = self.name

    def get(self, task_type: str) -> Handler:
        try:
            return self.handlers[task_type]
        except KeyError:
            known = ", ".join(sorted(self.handlers)) or "none"
            raise UnknownTaskType(
                f"app {self.name!r} has no task type {task_type!r}; it has: {known}"
            ) from None
