"""Convert between calls and payloads by a handler's signature.

Owns the form of a payload: a JSON object of the arguments by name. `*args` is a list under its own name; the
arguments that `**kwargs` takes stand beside the others, under their own names. So `send`, the command line
and another release's signature write and read the same form. Only if a name in `**kwargs` is also a
parameter's name are they an object under the name of `**kwargs`. That was the form of older releases, and it
is always accepted.
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
from streamq.convert.converter import Converter, EncodeError, decode_error, under, unexpected_type
from streamq.convert.encoding import dumped, payload_error
from streamq.convert.untyped import PLAIN, UNTYPED, or_none
from streamq.depth import TOO_DEEP
from streamq.errors import DecodeError, InvalidArguments, UnknownArguments
from streamq.model.output import NamesOutputs, outputs_in
from streamq.payloads.pipeline import opened

_PLAIN: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_LEFT_OUT: Final = object()
_NOTHING: Final[frozenset[type]] = frozenset()


class Arguments:
    """The arguments of one task type, called `name`. hints: returns the annotations, called at the first use,
    since one may name a class that is defined further down."""

    def __init__(
        self, name: str, signature: inspect.Signature, hints: Callable[[], dict[str, object]]
    ) -> None:
        self._name = name
        self._signature = signature
        self._hints = hints
        self._what = f"the arguments of task type {name!r}"
        parameters = list(signature.parameters.values())
        self._by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        self._args_name = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self._kwargs_name = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
        self._names = {p.name for p in parameters}
        self._required = {
            p.name
            for p in parameters
            if p.default is p.empty and p.name not in (self._args_name, self._kwargs_name)
        }
        self._simple = all(p.kind in _PLAIN for p in parameters)

    @property
    def names(self) -> list[str]:
        """Return the names of single arguments: not those of *args and **kwargs."""
        return sorted(self._names - {self._args_name, self._kwargs_name})

    def has(self, name: str) -> bool:
        """Return whether a call may have an argument of this name."""
        return self._kwargs_name is not None or name in self._names

    def encode(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> bytes:
        """Return the payload of a call. Raise InvalidArguments or PayloadError in the caller's line, and
        NamesOutputs if some are outputs of a flow's nodes."""
        bound, kinds = self._bind(args, kwargs), self._unchecked_kinds
        for name, value in bound.items():
            if value.__class__ not in kinds[name]:
                break
        else:
            try:
                return orjson.dumps(bound)
            except (TypeError, ValueError):
                pass  # find the position below
        if outputs := outputs_in(bound):
            rest = {name: value for name, value in bound.items() if name not in outputs}
            raise NamesOutputs(outputs, self._written(self._converted(rest)))
        return self._written(self._converted(bound))

    @property
    def first(self) -> str | None:
        """The name of the first argument by position; None if there is none."""
        return self._by_position[0] if self._by_position else None

    def encode_by_name(self, given: Mapping[str, object]) -> bytes:
        """Return the payload of arguments by name, each a value or the JSON data for one."""
        data: dict[str, object] = dict(given)
        if data.keys() != self._names and (error := self._name_faults(data)):
            raise InvalidArguments(f"{self._name}{self._signature} cannot take this call: {error}")
        kinds = self._unchecked_kinds
        if self._simple:
            for name, value in data.items():
                if value.__class__ not in kinds[name]:
                    break
            else:
                return self._written(data)
        data, more = self._split_kwargs(data)
        found = {
            name: self._encoded_by_name(name, self._converter(name), value) for name, value in data.items()
        }
        extra = {
            name: self._encoded_by_name(name, self._kwargs_converter(name), value)
            for name, value in more.items()
        }
        return self._written(self._join_kwargs(found, extra))

    def _bind(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        if self._simple and len(args) <= len(self._by_position):
            # inspect's own binding costs more than the rest of an enqueue.
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
        """Return each argument as JSON data."""
        more = cast("dict[str, object]", bound.pop(self._kwargs_name or "", {}))
        found = {name: self._encoded(name, self._converter(name), value) for name, value in bound.items()}
        return self._join_kwargs(
            found,
            {name: self._encoded(name, self._kwargs_converter(name), value) for name, value in more.items()},
        )

    def _join_kwargs(self, found: dict[str, object], more: dict[str, object]) -> dict[str, object]:
        if self._kwargs_name is None or not more:
            return found
        return {**found, self._kwargs_name: more} if more.keys() & self._names else {**found, **more}

    def _encoded(self, name: str, one: Converter, value: object) -> object:
        try:
            return one.write(value)
        except EncodeError as refused:
            raise payload_error(self._what, refused.under(name)) from None
        except RecursionError:
            raise payload_error(self._what, EncodeError(TOO_DEEP, changed=False).under(name)) from None

    def _encoded_by_name(self, name: str, one: Converter, value: object) -> object:
        try:
            return one.write(value)
        except (EncodeError, RecursionError):
            if one.decode is None:
                return self._encoded(name, one, value)
        from streamq.convert.compile import record_converter  # noqa: PLC0415 - loaded with the first such value
        from streamq.convert.one_way import to_data  # noqa: PLC0415

        try:
            data = to_data(value, record_converter)
            one.decode(data)
        except EncodeError:
            return self._encoded(name, one, value)
        except DecodeError as error:
            raise InvalidArguments(f"{self._name}: argument {under(name, error)}") from None
        return data

    def _written(self, data: dict[str, object]) -> bytes:
        try:
            return dumped(data)
        except EncodeError as refused:
            raise payload_error(self._what, refused) from None

    def decode(self, payload: bytes) -> tuple[tuple[object, ...], dict[str, object]]:
        """Return the arguments to call the handler with. Raise DecodeError (reason `arguments`) if the
        payload does not fit."""
        try:
            given = orjson.loads(payload)
        except orjson.JSONDecodeError:
            given = _unsealed(payload)
        if not isinstance(given, dict):
            raise DecodeError("the payload is not a JSON object of the arguments by name")
        if given.keys() != self._names and (wrong := self._name_faults(given)):
            raise self._misfit(given, f"the payload does not fit {self._name}{self._signature}: {wrong}")
        more: dict[str, object] = {}
        if not self._simple:
            given, more = self._split_kwargs(given)
            for name in more:
                _replace(more, name, self._kwargs_converter(name).read)
        for name, kinds, read in self._readers:
            if name in given and given[name].__class__ not in kinds:
                _replace(given, name, read)
        return ((), given) if self._simple else self._split(given, more)

    def _misfit(self, given: dict[str, object], message: str) -> DecodeError:
        if self._required - given.keys():
            return DecodeError(message, reason="arguments")
        return UnknownArguments(message, tuple(sorted(given.keys() - self._names)))

    def _name_faults(self, given: dict[str, object]) -> str:
        """Describe the names that are missing or unknown; empty if there are none."""
        missing = self._required - given.keys()
        extra = set() if self._kwargs_name is not None else given.keys() - self._names
        return ", ".join(
            f"{' and '.join(sorted(map(str, names)))} {word}"
            for names, word in ((missing, "missing"), (extra, "unknown"))
            if names
        )

    def _split_kwargs(self, given: dict[str, object]) -> tuple[dict[str, object], dict[str, object]]:
        """Split the arguments into the parameters' own and those that `**kwargs` takes."""
        if self._kwargs_name is None:
            return given, {}
        nested = given.get(self._kwargs_name)
        more = dict(nested) if isinstance(nested, Mapping) else {}
        for name, value in given.items():
            if name not in self._names or (name == self._kwargs_name and not isinstance(nested, Mapping)):
                more[name] = value
        return {
            name: value for name, value in given.items() if name in self._names - {self._kwargs_name}
        }, more

    def _split(
        self, given: dict[str, object], more: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        args: list[object] = []
        kwargs: dict[str, object] = {}
        for parameter in self._signature.parameters.values():
            name = parameter.name
            if parameter.kind in _POSITIONAL:
                args.append(given.get(name, _LEFT_OUT))
            elif name == self._args_name:
                args += self._var_args_of(given)
            elif name in given and name != self._kwargs_name:
                kwargs[name] = given[name]
        while args and args[-1] is _LEFT_OUT:
            args.pop()
        defaults = [p.default for p in self._signature.parameters.values()]
        filled = [default if arg is _LEFT_OUT else arg for arg, default in zip(args, defaults, strict=False)]
        return tuple(filled + args[len(filled) :]), {**kwargs, **more}

    def _var_args_of(self, given: dict[str, object]) -> list[object]:
        found = given.get(self._args_name or "", [])
        if not isinstance(found, list):
            raise DecodeError(
                f"argument {self._args_name}: {decode_error('a list', found)}", reason="arguments"
            )
        return found

    def prepare(self) -> None:
        """Compile everything now, so that a bad annotation stops a worker at its start."""
        _ = self._readers, self._kwargs_converters

    @cached_property
    def _converters(self) -> dict[str, Converter]:
        """Return the converters of the parameters that are not plain JSON."""
        found: dict[str, Converter] = {}
        hints = self._hints()
        for name in self._names:
            if name == self._kwargs_name or name not in hints:
                continue
            hint = or_none(hints[name], self._signature.parameters[name].default)
            if (one := self._compiled(name, hint)) is not PLAIN:
                found[name] = one
        if self._args_name is not None:
            found[self._args_name] = _var_args(found.get(self._args_name, PLAIN), hints.get(self._args_name))
        return found

    @cached_property
    def _unchecked_kinds(self) -> dict[str, frozenset[type]]:
        """Return, by parameter, the classes whose values are sent without a check. Used for every task."""
        apart = (self._args_name, self._kwargs_name)
        return {name: _NOTHING if name in apart else self._converter(name).kinds for name in self._names}

    @cached_property
    def _readers(self) -> list[tuple[str, frozenset[type], Callable[[object], object]]]:
        """Return the parameters whose data is checked: data of these classes passes, other data is decoded.
        Used for every task."""
        found = self._converters.items()
        return [(name, one.kinds, one.decode) for name, one in found if one.decode is not None]

    @cached_property
    def _kwargs_converters(self) -> dict[str | None, Converter]:
        """Return the converters of the arguments in `**kwargs`: by name, or one for all under None."""
        from streamq.convert.compile import unwrapped  # noqa: PLC0415 - for `**kwargs` only
        from streamq.convert.generics import is_unpack  # noqa: PLC0415 - as above
        from streamq.convert.records import field_types, is_typed_dict  # noqa: PLC0415

        annotation = self._hints().get(self._kwargs_name or "", object)
        if is_unpack(annotation) and is_typed_dict(kind := unwrapped(typing.get_args(annotation)[0])):
            fields = field_types(typing.get_origin(kind) or kind, typing.get_args(kind))
            return {name: self._compiled(name, hint) for name, hint in fields.items()}
        return {None: self._compiled(self._kwargs_name or "", annotation)}

    def _converter(self, name: str) -> Converter:
        return self._converters.get(name, PLAIN)

    def _kwargs_converter(self, name: str) -> Converter:
        found = self._kwargs_converters
        return found.get(name) or found.get(None, PLAIN)

    def _compiled(self, name: str, annotation: object) -> Converter:
        if any(annotation is known for known in UNTYPED):
            return PLAIN
        if (one := json_scalars.find(annotation)) is not None:
            return one
        if annotation is list or annotation is dict:
            return json_scalars.bare(annotation, PLAIN)
        from streamq.convert.compile import annotation_text, converter  # noqa: PLC0415 - most producers need none of these

        if isinstance(annotation, typing.ParamSpecArgs | typing.ParamSpecKwargs):
            return PLAIN
        from streamq.convert.generics import is_unpack  # noqa: PLC0415 - as above

        if _is_unpacked(annotation):  # *args: *tuple[int, str]
            annotation = (
                typing.get_args(annotation)[0]
                if is_unpack(annotation)
                else types.GenericAlias(tuple, typing.get_args(annotation))
            )
        try:
            return converter(annotation)
        except InvalidArguments as error:
            raise InvalidArguments(
                f"parameter {name!r} of task type {self._name!r}, {annotation_text(annotation)}: {error}"
            ) from None


def _unsealed(payload: bytes) -> object:
    """Return the data of a payload that is not JSON: it may have gone through payload stages. Raise
    DecodeError."""
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


def _is_unpacked(annotation: object) -> bool:
    from streamq.convert.generics import is_unpack  # noqa: PLC0415 - for `*args` only

    return is_unpack(annotation) or bool(getattr(annotation, "__unpacked__", False))


def _var_args(one: Converter, annotation: object) -> Converter:
    """Return the converter for `*args`: a list whose items have the annotation."""
    if _is_unpacked(annotation):
        return one
    from streamq.convert.containers import items  # noqa: PLC0415 - for `*args` only

    def decode(data: object) -> object:
        if not isinstance(data, list):
            raise decode_error("a list", data)
        return data if one.decode is None else items(data, one.read)

    def encode(value: object) -> object:
        if not isinstance(value, tuple | list):
            raise unexpected_type("a list", value)
        return items(value, one.write)

    return Converter("list", encode, decode, frozenset({list}))
