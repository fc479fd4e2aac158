"""Convert Pydantic models and dataclasses with their own serializer and validator.

Owns which of their forms is used. What a model omits, masks or changes cannot be foreseen, so each value is
read back before it is sent. Pydantic itself is never imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import date, datetime
from typing import Final, Protocol, TypeGuard

import orjson

from streamq.convert.converter import Converter, EncodeError, kind_of, unexpected_type
from streamq.convert.round_trip import difference
from streamq.errors import DecodeError

_MOMENTS: Final[dict[str, type]] = {
    "PastDate": date, "FutureDate": date, "AwareDatetime": datetime, "NaiveDatetime": datetime,
    "PastDatetime": datetime, "FutureDatetime": datetime,
}  # fmt: skip
"""Without their condition: a date in the future is one in the past when the task runs."""
_UNSAFE: Final = ("ImportString",)
"""Classes whose validator acts: a payload must not name the module that a worker imports."""
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


def moment(kind: type) -> type | None:
    """Return the class of the values of Pydantic's AwareDatetime and the like; None for any other."""
    return _MOMENTS.get(kind.__name__) if kind.__module__ == "pydantic.types" else None


def adapted(kind: type) -> Converter | None:
    """Return the converter for a class of another kind that Pydantic can read, such as HttpUrl; None if it
    cannot."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or not hasattr(kind, "__get_pydantic_core_schema__") or kind.__name__ in _UNSAFE:
        return None
    try:
        adapter = pydantic.TypeAdapter(kind)
        form = _Adapted(kind.__name__, adapter.serializer, adapter.validator)
    except Exception:  # noqa: BLE001 - an old Pydantic, or a package that the class needs is missing
        return None
    whole = model(form)

    def decode(data: object) -> object:
        found = whole.read(data)
        # A validator may also change a text, as that of an email address does: the text was sent.
        return data if found.__class__ is data.__class__ else found

    def encode(value: object) -> object:
        try:
            return _checked(form, value, decode, by_alias=True)
        except EncodeError as refused:
            if refused.place or not isinstance(value, str | int | float):
                raise
            raise unexpected_type(f"a {form.__name__}", value, f"pass {form.__name__}(…)") from None

    return Converter(kind.__name__, encode, decode)


class _Adapted:
    """What a model has, for a class that is none."""

    def __init__(self, name: str, serializer: _Serializer, validator: _Validator) -> None:
        self.__name__ = name
        self.__pydantic_serializer__ = serializer
        self.__pydantic_validator__ = validator


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
