"""A handler: a user's function with the name and the policy of its task type.

Owns the binding of arguments to the function's signature, in the enqueue call and in the worker. Must not
know Redis, nor how a handler is executed.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import orjson

from streamq.convert.arguments import Arguments
from streamq.convert.converter import Converter
from streamq.convert.encoding import encode_as
from streamq.errors import DecodeError, InvalidArguments, InvalidOption, PayloadError, UsageError
from streamq.model.delivery import Delivery
from streamq.model.effect import NEW_RUN
from streamq.options.task import TaskOptions
from streamq.options.unique_plan import Plan, plan, unique_options
from streamq.payloads.pipeline import Pipeline, opened, versioned
from streamq.payloads.stage import MOST, About
from streamq.registry import batching, dependencies
from streamq.registry.app_parts import AppParts
from streamq.registry.upcasting import fitted, upcast_value
from streamq.wording import listed

if TYPE_CHECKING:
    from streamq.payloads.blob_store import Blobs
    from streamq.resources.plan import DependencyPlan


class Handler(AppParts):
    """A user's function with the name and the policy of its task type. stated: the options that the code
    sets, even to their defaults."""

    def __init__(
        self, name: str, function: Callable[..., Any], options: TaskOptions, stated: Iterable[str] = ()
    ) -> None:
        super().__init__()
        self.name: str = name
        self._result_name: str = f"the result of task type {name!r}"
        self.batch_function: Callable[..., Any] = function
        """Takes a list of items, if the handler takes batches."""
        self.function: Callable[..., Any] = function
        self.options = options
        self.pool: str = ""
        """The pool of workers that its tasks are for; "" for those that name none."""
        self._pools: dict[str, Handler] = {}
        self._hinted: dict[str, object] | None = None
        self.reference: str = _reference(function)
        signature = _signature(function)
        self.is_async: bool = inspect.iscoroutinefunction(function) or _is_async_object(function)
        self._dependencies = dependencies.of(function, signature, is_async=self.is_async)
        self.signature: inspect.Signature = dependencies.without(signature, self._dependencies)
        """Of a call: the function's, without its dependencies."""
        if options.batch is not None:
            self._take_items(name)
        self._arguments: Arguments = Arguments(name, self.signature, self._annotations)
        self.arguments: Callable[[bytes], tuple[tuple[object, ...], dict[str, object]]] = (
            self._arguments.decode
        )
        """Decodes a payload into the arguments of the function. Raises DecodeError if it does not match."""
        self.retention_ms: int = round(options.retention * 1000)
        self.lock: Plan | None = plan(unique_options(options))
        """The rule of its tasks' unique keys; None if they have none."""
        self.stated: frozenset[str] = frozenset(stated)
        self._check_options()

    def _check_options(self) -> None:
        """Raise InvalidOption if an option does not fit the name or the function."""
        name, options = self.name, self.options
        if name in options.aliases:
            raise InvalidOption(f"aliases: {name!r} is the name of the task type itself: leave it out")
        if options.schedule is not None:
            _check_without_arguments(name, self.signature)
        self._check_lane()
        if self.is_async and options.executor != "auto":
            raise InvalidOption(
                f"task type {name!r} is async and runs on the loop: leave out executor={options.executor!r}"
            )
        if self.lock is not None:
            self.check_names(self.lock.by)

    def in_pool(self, pool: str) -> Handler:
        """Return the handler of the same function for a pool: with the same policy, as a type of its own."""
        found = self._pools.get(pool)
        if found is None or found.app != self.app:
            if self.pool:
                raise InvalidOption(f"pool={pool!r}: {self.name!r} is in pool {self.pool!r} already")
            found = self._pools[pool] = copy(self)
            found.pool, found.options = pool, replace(self.options, schedule=None)
            found.rename(f"{self.name}@{pool}")
        return found

    def _take_items(self, name: str) -> None:
        """Become a handler of single tasks, with the item as their argument."""
        if self.options.executor == "process":
            raise InvalidOption(f"task type {name!r}: batch and executor='process' exclude each other")
        self._items: str = next(iter(self.signature.parameters), "")
        self.signature = batching.signature(name, self.signature)
        self.function = batching.one_by_one(self.batch_function, is_async=self.is_async)

    def rename(self, name: str) -> None:
        """Give a handler that is not registered yet another name."""
        self.name, self._pools = name, {}
        self._result_name = f"the result of task type {name!r}"
        self._arguments = Arguments(name, self.signature, self._annotations)
        self.arguments = self._arguments.decode

    def check_names(self, names: Iterable[str]) -> None:
        """Raise InvalidOption if one of these is not the name of an argument."""
        for name in names:
            if not self._arguments.has(name):
                raise InvalidOption(
                    f"unique: by={name!r:.80} is not an argument of task type {self.name!r}: "
                    f"{self.reference}{self.signature}"
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
        """Return the arguments of a call as JSON. Raises InvalidArguments or PayloadError."""
        raw = self._arguments.encode(args, kwargs)
        return raw if len(raw) <= self.options.max_payload else self._sized(raw)

    @property
    def first_argument(self) -> str | None:
        """The name of its first argument by position; None if it has none."""
        return self._arguments.first

    def hint(self, argument: str) -> object:
        """Return the annotation of an argument, or with `return` of the result; None if it has none."""
        if self._hinted is None:
            self._hinted = self._annotations()
        return self._hinted.get(argument)

    def payload_by_name(self, given: Mapping[str, object]) -> bytes:
        """Return the same for arguments by name: each a value, or the JSON data of one."""
        raw = self._arguments.encode_by_name(given)
        return raw if len(raw) <= self.options.max_payload else self._sized(raw)

    def _sized(self, raw: bytes) -> bytes:
        return sized(raw, self.options.max_payload, f"the arguments of task type {self.name!r}")

    def attach(self, app: str, pipeline: Pipeline | None, blobs: Blobs | None = None) -> None:
        """Make it a handler of this app, which stores through these stages, and what is large in blobs."""
        more = (
            pipeline is not None
            or blobs is not None
            or self.options.version > 1
            or self.options.extra == "ignore"
        )
        self.belong(app, pipeline, blobs, self._read if more else None)

    def _read(self, delivery: Delivery) -> tuple[tuple[object, ...], dict[str, object]]:
        about = About(self.app, delivery.type, "payload", most=max(MOST, self.options.max_payload))
        raw, policy = opened(delivery.payload, about), self.options
        if delivery.version < policy.version or policy.extra == "ignore":
            raw = fitted(raw, delivery.version, policy, self.upcasters, self._arguments.has)
        return self._arguments.decode(raw)

    def sent_arguments(self, payload: bytes) -> tuple[tuple[object, ...], dict[str, object]]:
        """Return the arguments of a payload that this program has sent."""
        return self._arguments.decode(opened(payload, About(self.app, self.name, "payload")))

    def stored(self, payload: bytes) -> bytes:
        """Return a payload as it is stored."""
        if self.pipeline is None:
            return payload
        about = About(self.app, self.name, "payload", most=max(MOST, self.options.max_payload))
        return self.pipeline.seal(payload, about)

    def stored_result(self, result: bytes, delivery: Delivery) -> bytes:
        """Return a task's result, as JSON, as it is stored: with its version, if that is not 1 and no flow
        hands it on."""
        if not delivery.node:
            result = versioned(result, self.options.version)
        if self.pipeline is None or not result:
            return result
        return self.pipeline.seal(result, About(self.app, delivery.type, "result", str(delivery.id)))

    def hints(self) -> dict[str, object]:
        """Return the annotations of the arguments and of the result, under `return`."""
        return self._annotations()

    def _annotations(self) -> dict[str, object]:
        try:
            function = _annotated(self.batch_function)
            found = function if self._dependencies is None else self._dependencies.unannotated(function)
            hints = typing.get_type_hints(found, include_extras=True)
            return hints if self.options.batch is None else batching.hints_of_one(hints, self._items)
        except NameError as error:
            raise InvalidArguments(f"cannot read the annotations of {self.reference}: {error}") from None

    @property
    def plan(self) -> DependencyPlan | None:
        """The plan of its dependencies, with the app's overrides; None if it has none."""
        found = self._dependencies
        return None if found is None else found.plan(self.resources.overrides)

    def check_given(self, given: Iterable[str], count: int) -> None:
        """Raise UsageError if a plain call of the function lacks a dependency. count: of arguments by
        position."""
        if self._dependencies is None:
            return
        bound = {*given, *list(inspect.signature(self.function).parameters)[:count]}
        if missing := [name for name in self._dependencies.names if name not in bound]:
            raise UsageError(
                f"{self.name}(...) runs the function here, where nothing provides {' and '.join(missing)}: "
                f"pass {'them' if len(missing) > 1 else 'it'}, such as {self.name}(..., {missing[0]}=...)"
            )

    def prepare(self) -> None:
        """Compile all converters now, so that a bad annotation stops a worker at its start."""
        self._arguments.prepare()
        _ = self._result

    @cached_property
    def _result(self) -> Converter:
        from streamq.convert.compile import result  # noqa: PLC0415 - a producer never reads one
        from streamq.registry import growth  # noqa: PLC0415 - as above

        hint = self._annotations().get("return", Any)
        if growth.expands(hint):
            return growth.converter(hint)
        try:
            return result(hint)
        except InvalidArguments as error:
            raise InvalidArguments(f"{self._result_name}: {error}") from None

    def encode_result(self, value: object) -> bytes:
        """Return a handler's return value as JSON ('' for None). Raises PayloadError if JSON cannot represent
        it, or would not be read as the annotated type."""
        if value is None or value is NEW_RUN:
            return b""
        try:
            raw = encode_as(self._result, value, what=self._result_name)
        except (PayloadError, MemoryError):
            raise
        except Exception as error:  # whatever the value's own methods raise: the handler is done
            raise PayloadError(f"{self._result_name} cannot be encoded: {type(error).__name__}") from error
        return raw if len(raw) <= self.options.max_payload else self._sized_result(raw)

    def _sized_result(self, raw: bytes) -> bytes:
        return sized(raw, self.options.max_payload, self._result_name)

    @cached_property
    def expands(self) -> bool:
        """Whether it returns children: it is annotated `-> Expand[...]`."""
        from streamq.registry import growth  # noqa: PLC0415 - few handlers return children

        return growth.expands(self.hint("return"))

    @cached_property
    def joins(self) -> bool:
        """Whether one of these children joins the others: it is annotated `-> Joined[...]`."""
        from streamq.registry import growth  # noqa: PLC0415 - as above

        return growth.joins(self.hint("return"))

    def decode_result(self, raw: bytes, version: int | None = None) -> object:
        """Return the return value. version: of the code that stored it; None for this one's. Raises
        DecodeError if it does not match the annotation."""
        if not raw:
            return None
        value, own = orjson.loads(raw), self.options.version
        if version is None or version == own:
            return self._result.read(value)
        try:
            return self._result.read(upcast_value(value, version, own, self.result_upcasters, "it"))
        except DecodeError as error:
            raise DecodeError(
                f"the result is of version {version}, and this program's code of version {own}: {error}",
                reason="version",
            ) from None


def sized(raw: bytes, limit: int, what: str) -> bytes:
    """Return the bytes. Raises PayloadError if there are more than the limit."""
    if len(raw) > limit:
        raise PayloadError(
            f"{what}: {len(raw):,} bytes are over the limit of {limit:,}. "
            "Store the data elsewhere and pass a reference, or raise max_payload"
        )
    return raw


def _signature(function: Callable[..., object]) -> inspect.Signature:
    """Return the signature of a handler. Raises InvalidOption if the object cannot be one."""
    if isinstance(function, str):
        raise InvalidOption(f"{function!r} is not a function: write @app.task(name={function!r})")
    if not callable(function):
        raise InvalidOption(f"{function!r} is not a function: put @app.task above a def or an async def")
    if inspect.isgeneratorfunction(_inner(function)) or inspect.isasyncgenfunction(_inner(function)):
        raise InvalidOption(
            f"{_reference(function)} is a generator, whose body would never run: return a list instead"
        )
    try:
        return inspect.signature(function)
    except ValueError:
        raise InvalidOption(f"{function!r} has no introspectable signature: wrap it in a function") from None


def _check_without_arguments(name: str, signature: inspect.Signature) -> None:
    """Raise InvalidOption where a schedule could not call it: it has no arguments to give."""
    needed = [
        one.name
        for one in signature.parameters.values()
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    if needed:
        raise InvalidOption(
            f"task type {name!r}: a schedule calls it without arguments, and {', '.join(needed)} has "
            "no default: give it one, or put the schedule with app.schedules.put(..., task.bind(...))"
        )


def _inner(function: object) -> object:
    while isinstance(function, partial):
        function = function.func
    return function


def _annotated(function: object) -> object:
    """Return what has the annotations: of a callable object, its __call__."""
    inner = _inner(function)
    return inner if inspect.isroutine(inner) or isinstance(inner, type) else type(inner).__call__


def _is_async_object(function: object) -> bool:
    return inspect.iscoroutinefunction(type(function).__call__)


def _reference(function: object) -> str:
    """Return `module:qualname`; for an object, of its class, and for a partial, of its function."""
    inner = _inner(function)
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{named.__module__}:{getattr(named, '__qualname__', '')}"
