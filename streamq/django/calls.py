"""How a Django task's call becomes a payload, and what its result holds besides the value.

Owns both formats. A payload has the arguments by name, as that of every task type, and how many of them were
given by position, as `TaskResult` tells them apart. A result has the return value with what `TaskResult`
shows of a task that has ended. Sends nothing and runs nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from streamq.django.names import InvalidTask
from streamq.errors import PayloadError
from streamq.model.task import NAME_PATTERN
from streamq.options.task import TaskOptions
from streamq.registry.handler import Handler

POSITIONAL: Final = "_positional"
"""The argument that holds how many were given by position; left out if none was."""
_LONGEST: Final = 100
_RECORD: Final = frozenset({"return_value", "args", "kwargs"})


class UnsupportedResult(PayloadError, TypeError):
    """The return value of a Django task is not JSON: the task has run and is not tried again."""


class Returned(NamedTuple):
    """What a handler returned, with its arguments. more: `errors`, `worker_ids` and times of a task that had
    attempts before, `enqueued_ms` of one that began in the schedule."""

    value: object
    args: list[object]
    kwargs: dict[str, object]
    more: Mapping[str, object]


class DjangoHandler(Handler):
    """The handler of a Django task: its result is stored with what `TaskResult` shows."""

    def encode_result(self, value: object) -> bytes:
        """Return what a handler returned as JSON. Raises PayloadError."""
        if isinstance(value, Returned):
            record = {"return_value": value.value, "args": value.args, "kwargs": value.kwargs, **value.more}
            return super().encode_result(record)
        return super().encode_result(value)

    def decode_result(self, raw: bytes, version: int | None = None) -> object:
        """Return the return value alone."""
        found = super().decode_result(raw, version)
        return found["return_value"] if is_record(found) else found  # type: ignore[index]


def is_record(found: object) -> bool:
    """Return whether a stored result is that of a Django task."""
    return isinstance(found, dict) and found.keys() >= _RECORD


def handler_of(
    name: str,
    function: Callable[..., Any],
    run: Callable[[tuple[Any, ...], dict[str, Any]], Any],
    signature: inspect.Signature,
    options: TaskOptions,
    stated: Mapping[str, object],
) -> Handler:
    """Return the handler of a task type, whose attempts are `run`."""
    if inspect.iscoroutinefunction(function):

        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            return await run(args, kwargs)

        wrapper: Any = asynchronous
    else:

        def synchronous(*args: Any, **kwargs: Any) -> Any:
            return run(args, kwargs)

        wrapper = synchronous
    wrapper.__name__, wrapper.__qualname__ = function.__name__, function.__qualname__
    wrapper.__module__, wrapper.__doc__ = function.__module__, function.__doc__
    wrapper.__wrapped__, wrapper.__annotations__ = function, {}
    wrapper.__signature__ = stored_signature(signature)
    return DjangoHandler(name, wrapper, options, stated)


def call_signature(function: Callable[..., Any], *, takes_context: bool) -> inspect.Signature:
    """Return the signature of a task's calls: without the context. Raises InvalidTask."""
    signature = inspect.signature(function)
    _check_function(function, signature)
    listed = list(signature.parameters.values())[1 if takes_context else 0 :]
    if POSITIONAL in signature.parameters:
        raise InvalidTask(f"a task cannot have a parameter called {POSITIONAL}: streamq uses it")
    return signature.replace(parameters=listed)


def _check_function(function: Callable[..., Any], signature: inspect.Signature) -> None:
    """Raise InvalidTask for a function that can be imported, and not be called as a task."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidTask(
            f"{function.__qualname__} is a generator, whose body never runs: return a list instead"
        )
    first = next(iter(signature.parameters), "")
    if "." in function.__qualname__ and first in ("self", "cls"):
        raise InvalidTask(
            f"{function.__qualname__} is a method, and a worker has no object for {first!r}: make it a "
            "function of the module, and pass what it needs, such as the key of a row"
        )


def stored_signature(signature: inspect.Signature) -> inspect.Signature:
    """Return the signature of a payload: that of the calls, and the number of arguments by position."""
    listed = list(signature.parameters.values())
    own = inspect.Parameter(POSITIONAL, inspect.Parameter.KEYWORD_ONLY, default=0)
    last = [one for one in listed if one.kind is one.VAR_KEYWORD]
    return signature.replace(parameters=[*(one for one in listed if one not in last), own, *last])


def split(signature: inspect.Signature, given: Mapping[str, object]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a payload as the call gave them: by position, and by name."""
    named = dict(given)
    count: Any = named.pop(POSITIONAL, 0)
    count = count if isinstance(count, int) else 0
    args: list[Any] = []
    for number, one in enumerate(signature.parameters.values()):
        by_position = one.kind is one.POSITIONAL_ONLY
        by_either = one.kind is one.POSITIONAL_OR_KEYWORD and number < count
        if (by_position or by_either) and one.name in named:
            args.append(named.pop(one.name))
        elif one.kind is one.VAR_POSITIONAL and isinstance(more := named.get(one.name), list | tuple):
            args += more
            del named[one.name]
        elif one.kind is one.VAR_KEYWORD and isinstance(extra := named.get(one.name), dict):
            del named[one.name]
            named.update(extra)
    return args, named


def type_name(path: str, queue: str = "") -> str:
    """Return the name of the task type of a module path, and of the queue if it is not the task's own. A name
    that is no valid one, or too long, is cut and gets a digest of the whole."""
    whole = f"{path}--{queue}" if queue else path
    if NAME_PATTERN.fullmatch(whole):
        return whole
    digest = blake2b(whole.encode(), digest_size=6).hexdigest()
    kept = "".join(letter if NAME_PATTERN.fullmatch("a" + letter) else "_" for letter in whole)
    return f"{kept[: _LONGEST - len(digest) - 1]}-{digest}"
