"""A handler: a user's function with the name and the policy of its task type.

Owns the binding of arguments to the function's signature, in the caller's line when a task is enqueued
and in the worker when it runs. Knows neither Redis nor how a handler is executed.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import Any

import orjson

from streamq.context import Context
from streamq.convert.arguments import Arguments
from streamq.convert.converter import Converter
from streamq.convert.write import encode_as
from streamq.errors import (
    InvalidArguments,
    InvalidOption,
    PayloadError,
)
from streamq.hooks import NO_HOOKS, Manager
from streamq.model.task import NAME_PATTERN
from streamq.options.task import TaskOptions
from streamq.payloads.pipeline import Pipeline
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
        self._arguments = Arguments(name, _signature(function), self._annotations)
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
        self._check_lane()
        if self.is_async and options.executor != "auto":
            raise InvalidOption(
                f"task type {name!r} is async and runs on the loop: leave out executor={options.executor!r}"
            )

    def _check_lane(self) -> None:
        lane = self.options.lane
        if lane is None or not lane.argument or self._arguments.has(lane.argument):
            return
        raise InvalidOption(
            f"Lane({lane.argument!r}) names no argument of task type {self.name!r}: "
            f"it has {listed(self._arguments.names)}"
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
    def _result(self) -> Converter:
        from streamq.convert.compile import result  # noqa: PLC0415 - a producer never reads one

        hint = self._annotations().get("return", Any)
        try:
            return result(hint)
        except InvalidArguments as error:
            raise InvalidArguments(f"the result of task type {self.name!r}: {error}") from None

    def encode_result(self, value: object) -> bytes:
        """A handler's return value as JSON ('' for None); PayloadError where it has none, or where it would
        not be read as what the annotation says."""
        if value is None:
            return b""
        what = f"the result of task type {self.name!r}"
        try:
            raw = encode_as(self._result, value, what=what)
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


def check_name(name: str, what: str = "a task type") -> None:
    """Raises InvalidOption where it would not do in the keys."""
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):  # type: ignore[redundant-expr]
        raise InvalidOption(f"{name!r:.120} is no name for {what}: letters, digits, _ - . (at most 100)")
