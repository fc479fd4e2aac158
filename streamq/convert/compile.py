"""Compile an annotation to its converter: once, then reused for every task.

Owns the dispatch and the cache. Raises InvalidArguments if no JSON could be decoded to the annotated type.
"""

from __future__ import annotations

import threading
import types
import typing
from collections import Counter, deque
from collections.abc import Hashable
from enum import Enum
from typing import Final

from streamq.convert import containers, enums, generics, json_scalars, models, records, unions
from streamq.convert.converter import Converter, EncodeError
from streamq.convert.one_way import to_data
from streamq.convert.scalars import scalar
from streamq.convert.untyped import PLAIN, UNTYPED
from streamq.errors import InvalidArguments

_WRAPPERS: Final[tuple[object, ...]] = tuple(
    getattr(typing, name)
    for name in ("Final", "Required", "NotRequired", "ClassVar", "ReadOnly")
    if hasattr(typing, name)
)
_WRAPPER_NAMES: Final = ("ReadOnly", "Required", "NotRequired")
"""The wrappers of `typing_extensions` that are classes of its own."""
_OF_ITEMS: Final = (*containers.LISTS, *containers.SETS, frozenset, deque)
_BYTES: Final = (bytes, bytearray, memoryview)


class Compiler:
    """Compile annotations to converters. untyped: the converter for values without a useful annotation."""

    def __init__(self, untyped: Converter) -> None:
        self._untyped = untyped
        self._cache: dict[object, Converter] = {}
        self._lock = threading.RLock()
        self._unfinished: dict[object, Converter] = {}
        self._depth = 0

    def __call__(self, annotation: object) -> Converter:
        """Return the converter for an annotation. Raise InvalidArguments if there can be none."""
        annotation = unwrapped(annotation)
        try:
            known = self._cache.get(annotation)
        except TypeError:  # an unhashable part of Annotated or Literal
            return self._make(annotation)
        return known if known is not None else self._compiled(annotation)

    def _compiled(self, annotation: object) -> Converter:
        """Compile under the lock: other threads see the complete result or nothing."""
        with self._lock:
            found = self._cache.get(annotation) or self._unfinished.get(annotation)
            if found is not None:
                return found
            self._depth += 1
            try:
                made = self._compile_recursive(annotation)
                if self._depth == 1:
                    self._cache.update(self._unfinished)
                return made
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._unfinished.clear()

    def _compile_recursive(self, annotation: object) -> Converter:
        """Compile, with an unfinished converter in place that a recursive type finds on its way down."""
        made: Converter
        # Lambdas, not the methods themselves: `made` does not exist yet.
        held = self._unfinished[annotation] = Converter(
            annotation_text(annotation),
            lambda value: made.encode(value),  # noqa: PLW0108
            lambda data: made.read(data),  # noqa: PLW0108
        )
        made = self._make(annotation)
        held.json, held.names, held.kinds = (
            made.json,
            made.names,
            made.kinds,
        )  # for types that already refer to it
        self._unfinished[annotation] = made
        return made

    def _make(self, annotation: object) -> Converter:
        if (one := json_scalars.find(annotation)) is not None:
            return one
        if annotation is list or annotation is dict:
            return json_scalars.bare(annotation, self._untyped)
        if _in(annotation, UNTYPED) or isinstance(annotation, typing.TypeVar | str | typing.ForwardRef):
            return self._untyped
        origin, args = typing.get_origin(annotation), typing.get_args(annotation)
        if _is_alias(origin or annotation):
            return self(_alias_value(annotation, origin, args))
        if origin in (typing.Union, types.UnionType):
            return unions.union([(unwrapped(arg), self(arg)) for arg in args])
        if origin is typing.Literal:
            return enums.literal(args)
        kind = origin or annotation
        if _in(kind, _BYTES):
            raise InvalidArguments(
                "bytes cannot be an argument: JSON has none. Take text (base64) or a reference"
            )
        if not isinstance(kind, Hashable):
            return self._opaque(kind)  # no type: a list, or a dict
        return self._container(kind, args, annotation) or self._class(kind, args)

    def _container(self, kind: object, args: tuple[object, ...], annotation: object) -> Converter | None:
        if kind is tuple:
            return self._tuple(args, bare=annotation is tuple or annotation is typing.Tuple)  # noqa: UP006
        if kind in containers.MAPPINGS:
            return self._mapping(kind, args)
        if kind not in _OF_ITEMS:
            return None  # its arguments may be no types at all, as the list in Callable[[], int]
        inner = self(args[0]) if args else self._untyped
        if kind in containers.LISTS:
            return containers.lists(inner) if args else json_scalars.bare(list, self._untyped)
        if kind is deque:
            return containers.deques(inner)
        return containers.sets(frozenset if kind is frozenset else set, inner)

    def _tuple(self, args: tuple[object, ...], *, bare: bool) -> Converter:
        if bare:
            return containers.variadic(self._untyped)
        if len(args) == 2 and args[1] is Ellipsis:
            return containers.variadic(self(args[0]))
        if any(generics.is_unpack(arg) or getattr(arg, "__unpacked__", False) for arg in args):
            raise InvalidArguments(
                f"tuple[{', '.join(map(annotation_text, args))}] cannot be an argument: write tuple[T, ...]"
            )
        return containers.fixed([self(arg) for arg in args])

    def _mapping(self, kind: object, args: tuple[object, ...]) -> Converter:
        make = containers.MAPPINGS[kind]
        if not args and make is dict:
            return json_scalars.bare(dict, self._untyped)
        if len(args) < 2:  # Counter[T], or one without arguments
            args = (args[0] if args else str, int if make is Counter else object)
        return containers.mapping(make, self._keys(unwrapped(args[0])), self(args[1]))

    def _keys(self, annotation: object) -> Converter | None:
        if _in(annotation, (str, *UNTYPED)) or isinstance(annotation, typing.TypeVar):
            return None
        found: Converter | None = containers.NUMBER_KEYS.get(annotation)
        return found or containers.keys(self(annotation))

    def _class(self, kind: object, args: tuple[object, ...]) -> Converter:
        if not isinstance(kind, type):
            return self._opaque(kind)
        if issubclass(kind, Enum):
            return enums.enum(kind)
        if models.is_model(kind):
            return models.model(kind)
        if records.is_record(kind):
            return records.record(
                kind, {name: self(hint) for name, hint in records.field_types(kind, args).items()}
            )
        if (plain := models.moment(kind)) is not None:
            return self(plain)
        return scalar(kind) or models.adapted(kind) or self._opaque(kind)

    def _opaque(self, kind: object) -> Converter:
        """Return the converter for an annotation of unknown kind: its values pass if JSON brings them back
        equal."""

        def encode(value: object) -> object:
            try:
                data = self._untyped.encode(value)
            except EncodeError as refused:
                refused.fault += f"; the annotation {annotation_text(kind)} has no converter"
                raise
            if isinstance(kind, type) and _instance(value, kind) and not _instance(data, kind):
                raise EncodeError(
                    f"a {type(value).__qualname__} would come back as a {type(data).__name__}, not as the "
                    f"{annotation_text(kind)} that is annotated: annotate a JSON type, or a dataclass"
                )
            return data

        return Converter(annotation_text(kind), encode, None, plain=True)


def _instance(value: object, kind: type) -> bool:
    try:
        return isinstance(value, kind)
    except TypeError:  # a Protocol without runtime checks
        return False


def _in(annotation: object, listed: tuple[object, ...]) -> bool:
    return any(annotation is known for known in listed)


def _is_alias(annotation: object) -> bool:
    return type(annotation).__name__ == "TypeAliasType"


def _alias_value(annotation: object, origin: object, args: tuple[object, ...]) -> object:
    if origin is None or not _is_alias(origin):
        value: object = getattr(annotation, "__value__", object)
        return value
    given: dict[object, object] = dict(zip(getattr(origin, "__type_params__", ()), args, strict=False))
    return generics.substituted(getattr(origin, "__value__", object), given)


def unwrapped(annotation: object) -> object:
    """Return the annotation without Annotated, NewType, Required and Final."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated or origin in _WRAPPERS or _is_wrapper(origin):
            args: tuple[object, ...] = typing.get_args(annotation) or getattr(annotation, "__args__", ())
            annotation = next(iter(args))
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        else:
            return annotation


def _is_wrapper(origin: object) -> bool:
    return getattr(origin, "_name", None) in _WRAPPER_NAMES


def annotation_text(annotation: object) -> str:
    """Return an annotation as people write it."""
    name = getattr(annotation, "__qualname__", None) if not typing.get_args(annotation) else None
    return str(name or annotation).replace("typing.", "")


def record_converter(kind: type) -> Converter:
    """Return the converter for a record's own class, for values without an annotation."""
    return converter(kind)


converter: Final = Compiler(PLAIN)
"""For arguments: a value without an annotation must come back from JSON equal."""
result: Final = Compiler(
    Converter(
        "any value",
        lambda value: to_data(value, record_converter, keys=True),
        None,
        kinds=PLAIN.kinds,
        plain=True,
    )
)
"""For results: a value without an annotation is written in whatever form JSON has. The work is already done,
so the result is not refused because a tuple will arrive as a list."""
