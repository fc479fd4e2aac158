"""A handler's signature: a call -> a payload, and the payload -> the call.

Owns the form of a payload: a JSON object of the arguments by name. `*args` is a list under its own name;
what `**kwargs` takes stands beside the others, under its own names. So `send`, the command line and another
release's signature write and read the same. Only where a name of `**kwargs` is also a parameter's are they an
object under the name of `**kwargs`, which was the form of older releases and is always read.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Final, cast

import orjson

from streamq.convert import json_scalars
from streamq.convert.converter import Converter, Refused, misfit, under, wrong
from streamq.convert.plain import PLAIN, UNTYPED
from streamq.convert.write import dumped, refusal
from streamq.depth import TOO_DEEP
from streamq.errors import DecodeError, InvalidArguments
from streamq.payloads.pipeline import opened

_PLAIN: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_LEFT_OUT: Final = object()
_NOTHING: Final[frozenset[type]] = frozenset()


class Arguments:
    """The arguments of one task type. name: of it. hints: what finds the annotations, at the first use: one
    may name a class that is defined further down."""

    def __init__(
        self, name: str, signature: inspect.Signature, hints: Callable[[], dict[str, object]]
    ) -> None:
        self._name = name
        self._signature = signature
        self._hints = hints
        self._what = f"the arguments of task type {name!r}"
        parameters = list(signature.parameters.values())
        self._by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        self._rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self._more = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
        self._names = {p.name for p in parameters}
        self._required = {
            p.name for p in parameters if p.default is p.empty and p.name not in (self._rest, self._more)
        }
        self._simple = all(p.kind in _PLAIN for p in parameters)

    @property
    def names(self) -> list[str]:
        """The names of single arguments."""
        return sorted(self._names - {self._rest, self._more})

    def has(self, name: str) -> bool:
        """Whether there is a single argument of this name."""
        return name in self.names

    def encode(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> bytes:
        """The payload of a call; raises InvalidArguments or PayloadError in the caller's line."""
        bound, kinds = self._bind(args, kwargs), self._sent_as_they_are
        for name, value in bound.items():
            if value.__class__ not in kinds[name]:
                break
        else:
            try:
                return orjson.dumps(bound)
            except (TypeError, ValueError):
                pass  # say where
        return self._written(self._converted(bound))

    def encode_by_name(self, given: Mapping[str, object]) -> bytes:
        """The payload of arguments by name, each as a value or as the JSON data of one."""
        data: dict[str, object] = dict(given)
        if data.keys() != self._names and (error := self._wrong_names(data)):
            raise InvalidArguments(f"{self._name}{self._signature} cannot take this call: {error}")
        kinds = self._sent_as_they_are
        if self._simple:
            for name, value in data.items():
                if value.__class__ not in kinds[name]:
                    break
            else:
                return self._written(data)
        data, more = self._apart(data)
        found = {name: self._by_name(name, self._of(name), value) for name, value in data.items()}
        extra = {name: self._by_name(name, self._of_more(name), value) for name, value in more.items()}
        return self._written(self._together(found, extra))

    def _bind(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        if self._simple and len(args) <= len(self._by_position):
            # inspect's own binding costs more than all the rest of an enqueue.
            bound = dict(zip(self._by_position, args, strict=False))
            if not kwargs and len(bound) == len(self._names):
                return bound
            if not (bound.keys() & kwargs.keys()) and kwargs.keys() <= self._names:
                bound.update(kwargs)
                if self._required <= bound.keys():
                    return bound
        try:
            return dict(self._signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise InvalidArguments(f"{self._name}{self._signature} cannot take this call: {error}") from None

    def _converted(self, bound: dict[str, object]) -> dict[str, object]:
        """Each argument as JSON data."""
        more = cast("dict[str, object]", bound.pop(self._more or "", {}))
        found = {name: self._encoded(name, self._of(name), value) for name, value in bound.items()}
        return self._together(
            found, {name: self._encoded(name, self._of_more(name), value) for name, value in more.items()}
        )

    def _together(self, found: dict[str, object], more: dict[str, object]) -> dict[str, object]:
        if self._more is None or not more:
            return found
        return {**found, self._more: more} if more.keys() & self._names else {**found, **more}

    def _encoded(self, name: str, one: Converter, value: object) -> object:
        try:
            return one.write(value)
        except Refused as refused:
            raise refusal(self._what, refused.under(name)) from None
        except RecursionError:
            raise refusal(self._what, Refused(TOO_DEEP, changed=False).under(name)) from None

    def _by_name(self, name: str, one: Converter, value: object) -> object:
        try:
            return one.write(value)
        except (Refused, RecursionError):
            if one.decode is None:
                return self._encoded(name, one, value)
        from streamq.convert.compile import own  # noqa: PLC0415 - with the first such value
        from streamq.convert.natural import natural  # noqa: PLC0415

        try:
            data = natural(value, own)
            one.decode(data)
        except Refused:
            return self._encoded(name, one, value)
        except DecodeError as error:
            raise InvalidArguments(f"{self._name}: argument {under(name, error)}") from None
        return data

    def _written(self, data: dict[str, object]) -> bytes:
        try:
            return dumped(data)
        except Refused as refused:
            raise refusal(self._what, refused) from None

    def decode(self, payload: bytes) -> tuple[tuple[object, ...], dict[str, object]]:
        """What to call the handler with; DecodeError (reason `arguments`) where the payload does not fit."""
        try:
            given = orjson.loads(payload)
        except orjson.JSONDecodeError:
            given = _unsealed(payload)
        if not isinstance(given, dict):
            raise DecodeError("the payload is not a JSON object of the arguments by name")
        if given.keys() != self._names and (wrong := self._wrong_names(given)):
            raise DecodeError(
                f"the payload does not fit {self._name}{self._signature}: {wrong}", reason="arguments"
            )
        more: dict[str, object] = {}
        if not self._simple:
            given, more = self._apart(given)
            for name in more:
                _replace(more, name, self._of_more(name).read)
        for name, kinds, read in self._readers:
            if name in given and given[name].__class__ not in kinds:
                _replace(given, name, read)
        return ((), given) if self._simple else self._split(given, more)

    def _wrong_names(self, given: dict[str, object]) -> str:
        """Which names are missing or unknown; empty where all is well."""
        missing = self._required - given.keys()
        extra = set() if self._more is not None else given.keys() - self._names
        return ", ".join(
            f"{' and '.join(sorted(map(str, names)))} {word}"
            for names, word in ((missing, "missing"), (extra, "unknown"))
            if names
        )

    def _apart(self, given: dict[str, object]) -> tuple[dict[str, object], dict[str, object]]:
        """The parameters' own arguments, and those that `**kwargs` takes."""
        if self._more is None:
            return given, {}
        nested = given.get(self._more)
        more = dict(nested) if isinstance(nested, Mapping) else {}
        for name, value in given.items():
            if name not in self._names or (name == self._more and not isinstance(nested, Mapping)):
                more[name] = value
        return {name: value for name, value in given.items() if name in self._names - {self._more}}, more

    def _split(
        self, given: dict[str, object], more: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        args: list[object] = []
        kwargs: dict[str, object] = {}
        for parameter in self._signature.parameters.values():
            name = parameter.name
            if parameter.kind in _POSITIONAL:
                args.append(given.get(name, _LEFT_OUT))
            elif name == self._rest:
                args += self._rest_of(given)
            elif name in given and name != self._more:
                kwargs[name] = given[name]
        while args and args[-1] is _LEFT_OUT:
            args.pop()
        defaults = [p.default for p in self._signature.parameters.values()]
        filled = [default if arg is _LEFT_OUT else arg for arg, default in zip(args, defaults, strict=False)]
        return tuple(filled + args[len(filled) :]), {**kwargs, **more}

    def _rest_of(self, given: dict[str, object]) -> list[object]:
        found = given.get(self._rest or "", [])
        if not isinstance(found, list):
            raise DecodeError(f"argument {self._rest}: {misfit('a list', found)}", reason="arguments")
        return found

    def prepare(self) -> None:
        """Compile everything now, so that a bad annotation stops a worker at its start."""
        _ = self._readers, self._more_converters

    @cached_property
    def _converters(self) -> dict[str, Converter]:
        """Those of the parameters that are not JSON as they are."""
        found: dict[str, Converter] = {}
        hints = self._hints()
        for name in self._names:
            if name == self._more or name not in hints:
                continue
            if (one := self._compiled(name, hints[name])) is not PLAIN:
                found[name] = one
        if self._rest is not None:
            found[self._rest] = _many(found.get(self._rest, PLAIN), hints.get(self._rest))
        return found

    @cached_property
    def _sent_as_they_are(self) -> dict[str, frozenset[type]]:
        """By parameter the classes whose values are sent without a further look. On the way of every task."""
        apart = (self._rest, self._more)
        return {name: _NOTHING if name in apart else self._of(name).kinds for name in self._names}

    @cached_property
    def _readers(self) -> list[tuple[str, frozenset[type], Callable[[object], object]]]:
        """The parameters whose data are looked at: those classes may pass, the others are read. On the way of
        every task."""
        found = self._converters.items()
        return [(name, one.kinds, one.decode) for name, one in found if one.decode is not None]

    @cached_property
    def _more_converters(self) -> dict[str | None, Converter]:
        """Those of what `**kwargs` takes: under None that of all, else by name."""
        from streamq.convert.compile import unwrapped  # noqa: PLC0415 - for `**kwargs` only
        from streamq.convert.records import field_types, is_typed_dict  # noqa: PLC0415

        annotation = self._hints().get(self._more or "", object)
        if typing.get_origin(annotation) is typing.Unpack and is_typed_dict(
            kind := unwrapped(typing.get_args(annotation)[0])
        ):
            fields = field_types(typing.get_origin(kind) or kind, typing.get_args(kind))
            return {name: self._compiled(name, hint) for name, hint in fields.items()}
        return {None: self._compiled(self._more or "", annotation)}

    def _of(self, name: str) -> Converter:
        return self._converters.get(name, PLAIN)

    def _of_more(self, name: str) -> Converter:
        found = self._more_converters
        return found.get(name) or found.get(None, PLAIN)

    def _compiled(self, name: str, annotation: object) -> Converter:
        if any(annotation is known for known in UNTYPED):
            return PLAIN
        if (one := json_scalars.one(annotation)) is not None:
            return one
        if annotation is list or annotation is dict:
            return json_scalars.bare(annotation, PLAIN)
        from streamq.convert.compile import converter, shown  # noqa: PLC0415 - most producers have none of these

        if isinstance(annotation, typing.ParamSpecArgs | typing.ParamSpecKwargs):
            return PLAIN
        if _is_unpacked(annotation):  # *args: *tuple[int, str]
            annotation = (
                typing.get_args(annotation)[0]
                if _is_unpack(annotation)
                else types.GenericAlias(tuple, typing.get_args(annotation))
            )
        try:
            return converter(annotation)
        except InvalidArguments as error:
            raise InvalidArguments(
                f"parameter {name!r} of task type {self._name!r}, {shown(annotation)}: {error}"
            ) from None


def _unsealed(payload: bytes) -> object:
    """The data of a payload that is no JSON: it may have gone through stages. Raises DecodeError."""
    raw = opened(payload)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise DecodeError(f"the payload is not JSON: {error}") from None


def _replace(data: dict[str, object], name: str, decode: Callable[[object], object]) -> None:
    try:
        data[name] = decode(data[name])
    except DecodeError as error:
        raise DecodeError(f"argument {under(name, error)}", reason=error.reason) from None


def _is_unpack(annotation: object) -> bool:
    return typing.get_origin(annotation) is typing.Unpack


def _is_unpacked(annotation: object) -> bool:
    return _is_unpack(annotation) or bool(getattr(annotation, "__unpacked__", False))


def _many(one: Converter, annotation: object) -> Converter:
    """The converter of what `*args` takes: a list, of which each item is annotated."""
    if _is_unpacked(annotation):
        return one
    from streamq.convert.containers import items  # noqa: PLC0415 - for `*args` only

    def decode(data: object) -> object:
        if not isinstance(data, list):
            raise misfit("a list", data)
        return data if one.decode is None else items(data, one.read)

    def encode(value: object) -> object:
        if not isinstance(value, tuple | list):
            raise wrong("a list", value)
        return items(value, one.write)

    return Converter("list", encode, decode, frozenset({list}))
