"""Convert Pydantic models and dataclasses with their own serializer and validator.

Owns which of their forms is used. What a model omits, masks or changes cannot be foreseen, so each value is
read back before it is sent. Pydantic itself is never imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeGuard

import orjson

from streamq.convert.converter import Converter, EncodeError, kind_of
from streamq.convert.round_trip import difference
from streamq.errors import DecodeError

_WRITES: Final = (True, False)
"""Values of by_alias to try: the names that a model is validated by by default, then its field names."""


class _Serializer(Protocol):
    def to_python(
        self, value: object, *, mode: str, by_alias: bool, round_trip: bool, warnings: bool
    ) -> object: ...


class _Validator(Protocol):
    def validate_python(self, data: object) -> object: ...

    def validate_json(self, data: bytes, *, by_name: bool = ...) -> object: ...


class ModelClass(Protocol):
    """What Pydantic adds to the classes of models and dataclasses."""

    __name__: str
    __pydantic_serializer__: _Serializer
    __pydantic_validator__: _Validator


def is_model(kind: object) -> TypeGuard[ModelClass]:
    """Return whether a class itself, not just a base class, is Pydantic's."""
    return "__pydantic_validator__" in vars(kind) and hasattr(kind, "__pydantic_serializer__")


def model(kind: ModelClass) -> Converter:
    """Return the converter for a Pydantic model or dataclass."""
    name = kind.__name__
    exact: object = kind

    def decode(data: object) -> object:
        failed: Exception | None = None
        for read in _READS:
            try:
                return read(kind, data)
            except TypeError as error:
                failed = failed or error  # an older Pydantic, or a user's validator
            except Exception as error:  # noqa: BLE001 - a validator may raise anything
                failed = failed if failed is not None and not isinstance(failed, TypeError) else error
        raise DecodeError(f"{name}: {failed}", reason="arguments")

    def encode(value: object) -> object:
        if value.__class__ is not exact:
            raise EncodeError(
                f"{kind_of(value)} would come back as {name}: pass a {name}, or annotate its own class"
            )
        refused: EncodeError | None = None
        for by_alias in _WRITES:
            try:
                return _checked(kind, value, decode, by_alias=by_alias)
            except EncodeError as error:
                refused = refused or error
        assert refused is not None  # noqa: S101 - _WRITES is not empty
        raise refused

    return Converter(name, encode, decode, frozenset({dict}))


def _checked(
    kind: ModelClass, value: object, decode: Callable[[object], object], *, by_alias: bool
) -> object:
    """Return the model as JSON data. Raise EncodeError if it does not read back as the same model."""
    try:
        dumped = kind.__pydantic_serializer__.to_python(
            value, mode="json", by_alias=by_alias, round_trip=True, warnings=False
        )
        data = orjson.loads(orjson.dumps(dumped))
    except Exception as error:  # noqa: BLE001 - a serializer may raise anything
        fix = "Give that field a type with a JSON form, such as text"
        raise EncodeError(
            f"{kind.__name__} cannot be serialized as JSON: {error}. {fix}", changed=False
        ) from None
    try:
        back = decode(data)
    except DecodeError:
        # The error's text would repeat the model's content.
        raise EncodeError(
            f"{kind.__name__} cannot validate its own serialized form: make its serialization match its "
            "validation (alias, exclude, extra)"
        ) from None
    if (found := difference(value, back)) is not None:
        refused = EncodeError(
            f"{found[1]}: {kind.__name__} does not serialize it unchanged (exclude, a secret, a serializer, "
            "a private attribute): pass it as an argument of its own, or a reference to it"
        )
        for step in reversed(found[0]):
            refused.under(step)
        raise refused
    return data


def _validated(kind: ModelClass, data: object) -> object:
    return kind.__pydantic_validator__.validate_python(data)


def _validated_as_json(kind: ModelClass, data: object) -> object:
    """Validate in JSON mode, in which a strict model accepts dates as text."""
    return kind.__pydantic_validator__.validate_json(orjson.dumps(data))


def _validated_by_name(kind: ModelClass, data: object) -> object:
    return kind.__pydantic_validator__.validate_json(orjson.dumps(data), by_name=True)


_READS: Final = (_validated, _validated_as_json, _validated_by_name)
