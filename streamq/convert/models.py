"""Pydantic models and dataclasses: they write and read themselves, and are held to it.

Owns which of their forms is used. What a model leaves out, masks or changes cannot be foreseen, so each
value is read back before it is sent. Pydantic itself is never imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from streamq.convert.converter import Converter, Refused, kind_of
from streamq.convert.same import difference
from streamq.errors import DecodeError

_WRITES: Final = (True, False)
"""by_alias: the names that a model is validated by unless it says otherwise, then those of its fields."""


def is_model(kind: Any) -> bool:
    """Whether a class is Pydantic's, by itself and not by a base that is."""
    return "__pydantic_validator__" in vars(kind) and hasattr(kind, "__pydantic_serializer__")


def model(kind: Any) -> Converter:
    """The converter for a Pydantic model or dataclass."""
    name = kind.__name__

    def decode(data: object) -> object:
        failed: Exception | None = None
        for read in _READS:
            try:
                return read(kind, data)
            except TypeError as error:
                failed = failed or error  # an older Pydantic, or a validator of the user's
            except Exception as error:  # noqa: BLE001 - a validator may raise anything
                failed = failed if failed is not None and not isinstance(failed, TypeError) else error
        raise DecodeError(f"{name}: {failed}", reason="arguments")

    def encode(value: object) -> object:
        if value.__class__ is not kind:
            raise Refused(
                f"{kind_of(value)} would come back as {name}: pass a {name}, or annotate its own class"
            )
        refused: Refused | None = None
        for by_alias in _WRITES:
            try:
                return _checked(kind, value, decode, by_alias=by_alias)
            except Refused as error:
                refused = refused or error
        assert refused is not None  # noqa: S101 - _WRITES is not empty
        raise refused

    return Converter(name, encode, decode, frozenset({dict}))


def _checked(kind: Any, value: object, decode: Callable[[object], object], *, by_alias: bool) -> object:
    """The model as JSON data that reads as the same model."""
    try:
        dumped = kind.__pydantic_serializer__.to_python(
            value, mode="json", by_alias=by_alias, round_trip=True, warnings=False
        )
        data = orjson.loads(orjson.dumps(dumped))
    except Exception as error:  # noqa: BLE001 - a serializer may raise anything
        fix = "give that field a type with a JSON form, such as text"
        raise Refused(f"{kind.__name__} cannot write itself as JSON: {error}: {fix}", changed=False) from None
    try:
        back = decode(data)
    except DecodeError:
        # The error would repeat what the model holds.
        raise Refused(
            f"{kind.__name__} cannot read what it writes itself: make what it is serialized to fit what it "
            "is validated from (alias, exclude, extra)"
        ) from None
    if (found := difference(value, back)) is not None:
        refused = Refused(
            f"{found[1]}: {kind.__name__} does not write it as it is (exclude, a secret, a serializer, a "
            "private attribute): pass it as an argument of its own, or a reference to it"
        )
        for step in reversed(found[0]):
            refused.under(step)
        raise refused
    return data


def _validated(kind: Any, data: object) -> object:
    return kind.__pydantic_validator__.validate_python(data)


def _validated_as_json(kind: Any, data: object) -> object:
    """What a strict model reads: JSON has no dates, so it lets them be text."""
    return kind.__pydantic_validator__.validate_json(orjson.dumps(data))


def _validated_by_name(kind: Any, data: object) -> object:
    return kind.__pydantic_validator__.validate_json(orjson.dumps(data), by_name=True)


_READS: Final = (_validated, _validated_as_json, _validated_by_name)
