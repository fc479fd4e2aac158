"""What makes the handler of a batch one of single tasks, for whoever runs one task: a suspect's child
process, the test kit, a plain call.

Owns its signature, its annotations and the check of what it returns. Must not gather.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn

from streamq.context import get_context
from streamq.errors import InvalidOption, PayloadError, UsageError
from streamq.item import Item

ITEM: Final = "item"
"""The name of the one argument of a task."""


def one_by_one(function: Callable[..., Any], *, is_async: bool) -> Callable[..., object]:
    """Return a function that calls the handler with a batch of one, and returns its result."""

    @functools.wraps(function)
    def one(item: object, **kwargs: object) -> object:
        batch = _alone(item)
        return single(batch, function([batch], **kwargs))

    @functools.wraps(function)
    async def aone(item: object, **kwargs: object) -> object:
        batch = _alone(item)
        return single(batch, await function([batch], **kwargs))

    return aone if is_async else one


def _alone(value: object) -> Item[object]:
    try:
        context = get_context()
    except LookupError:
        return Item(value)
    return Item(value, context.id, context.attempt)


def single(item: Item[object], returned: object) -> object:
    """Return the result of a batch of one; raise what the handler let it fail with."""
    if item.error is not None:
        raise item.error
    results = results_of(returned, 1)
    return None if results is None else results[0]


def results_of(returned: object, number: int) -> Sequence[object] | None:
    """Return what a handler returned for so many items; None for all well. Raises PayloadError."""
    if returned is None:
        return None
    if not isinstance(returned, list | tuple):
        raise PayloadError(
            f"the handler of a batch returned {type(returned).__name__}: return a list with a result for "
            "each item, in order, or None"
        )
    if len(returned) != number:
        raise PayloadError(
            f"the handler of a batch returned {len(returned)} results for {number} items: return one for "
            "each, in order, or None"
        )
    return returned


def signature(name: str, own: inspect.Signature) -> inspect.Signature:
    """Return the signature of a single task, from that of a batch handler. Raises InvalidOption."""
    first, *others = own.parameters.values() or [None]
    needed = [one.name for one in others if one is not None and one.default is one.empty]
    if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD) or needed:
        raise InvalidOption(
            f"task type {name!r}: the handler of a batch takes one argument, the list of its items, as in "
            f"`def {name}(items: list[Item[int]])`, and dependencies"
        )
    return inspect.Signature([inspect.Parameter(ITEM, inspect.Parameter.POSITIONAL_OR_KEYWORD)])


def hints_of_one(own: Mapping[str, object], first: str) -> dict[str, object]:
    """Return the annotations of a single task, from those of a batch handler with this first parameter."""
    found = {"return": _element(own.get("return", Any))}
    return {ITEM: _argument(_element(own.get(first, Any))), **found}


def _element(hint: object) -> object:
    """Return R of `list[R] | None`."""
    if hint is None or hint is type(None):
        return None
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [one for one in typing.get_args(hint) if one is not type(None)]
        return _element(kinds[0]) if len(kinds) == 1 else Any
    args = typing.get_args(hint)
    is_list = typing.get_origin(hint) is not None and isinstance(typing.get_origin(hint), type)
    return args[0] if is_list and issubclass(typing.get_origin(hint), Iterable) and args else Any  # type: ignore[arg-type]


def _argument(hint: object) -> object:
    """Return A of `Item[A]`."""
    return (*typing.get_args(hint), Any)[0] if typing.get_origin(hint) is Item else Any


class NoHome:
    """The home of the contexts of batches: an attempt has many tasks, so what is of one has no place."""

    server: None = None

    def move(self, server: object) -> None:
        """Do nothing."""

    def flush(self, task: object) -> None:
        """Do nothing."""

    def log(self, task: object, worker: str, level: int, logger: str, message: str) -> bool:  # noqa: ARG002
        """Show no record: nobody can tell of which task it is."""
        return False

    def follow(self, task: object, before: list[object], calls: Iterable[object]) -> NoReturn:  # noqa: ARG002
        """Raise UsageError."""
        _refuse()

    def spawn(self, task: object, before: list[object], calls: Iterable[object]) -> NoReturn:  # noqa: ARG002
        """Raise UsageError."""
        _refuse()

    def go_on(self, task: object, before: list[object], call: object) -> NoReturn:  # noqa: ARG002
        """Raise UsageError."""
        _refuse()

    def steps(self, task: object, worker: str) -> NoReturn:  # noqa: ARG002
        """Raise UsageError."""
        _refuse()

    def progress(self, task: object, worker: str, done: float, total: float | None, text: str) -> NoReturn:  # noqa: ARG002
        """Raise UsageError."""
        _refuse()

    def emit(self, task: object, worker: str, value: object) -> NoReturn:  # noqa: ARG002
        """Raise UsageError."""
        _refuse()


def _refuse() -> NoReturn:
    raise UsageError(
        "the handler of a batch has the context of a call for many tasks: it has no steps, follow-ups, "
        "new runs and live events. Enqueue a task of another type for an item that needs them"
    )
