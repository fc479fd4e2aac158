"""Define what a converter is, and the error of each direction.

Owns `Converter`, EncodeError and the helpers that build both errors with the position of the fault, and how a
value is shown in them. Knows no annotation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from streamq.errors import DecodeError

Convert = Callable[[object], object]

SCALARS: Final[frozenset[type]] = frozenset({str, int, float, bool, type(None)})
"""The classes of JSON values that have no parts."""


class _State(threading.local):
    """Per-thread state. trusting: an enclosing converter reads back what is written now; doing so at each
    level would take exponential time in a tree of unions."""

    trusting = False


STATE: Final = _State()


@dataclass(slots=True)
class Converter:
    """Convert values of one annotation in both directions.

    name: for messages. encode: a value -> JSON data; raises EncodeError if the value would not come back.
    decode: JSON data -> the value, raises DecodeError; None if the data is the value.
    json: the classes of the JSON data that `encode` usually writes; empty if it may be any.
    names: an object's field names, all and the required ones; None if others may be read too.
    kinds: the classes whose values are JSON already and need no check, in either direction.
    plain: whether the data is the value itself: `decode` then only checks it.
    """

    name: str
    encode: Convert
    decode: Convert | None
    json: frozenset[type] = frozenset()
    names: tuple[AbstractSet[str], AbstractSet[str]] | None = None
    kinds: frozenset[type] = frozenset()
    plain: bool = False

    def read(self, data: object) -> object:
        """Return the value that JSON data stands for."""
        return data if self.decode is None or data.__class__ in self.kinds else self.decode(data)

    def write(self, value: object) -> object:
        """Return the JSON data for a value."""
        return value if value.__class__ in self.kinds else self.encode(value)

    def claims(self, data: object) -> bool:
        """Return whether the data's class and field names alone allow it to be this converter's."""
        if self.json and data.__class__ not in self.json:
            return False
        if self.names is None:
            return True
        return isinstance(data, dict) and self.names[1] <= data.keys() <= self.names[0]


class EncodeError(Exception):
    """A value cannot be sent. `changed`: JSON can hold it, but it would come back as another value.
    `wrong_type`: its type is not the annotated one."""

    def __init__(self, fault: str, *, changed: bool = True, wrong_type: bool = False) -> None:
        super().__init__(fault)
        self.fault = fault
        self.changed = changed
        self.wrong_type = wrong_type
        self._path: list[str] = []

    def under(self, name: str) -> EncodeError:
        """Prefix the position with one more step, and return this error."""
        self._path.append(name)
        return self

    @property
    def place(self) -> str:
        """Return the position within the value, such as `items[3].price`; empty for the value itself."""
        steps = self._path[::-1]
        shown = [*steps[:12], "…"] if len(steps) > 12 else steps
        return "".join(shown).lstrip(".")


def unexpected_type(wanted: str, value: object, fix: str = "") -> EncodeError:
    """Return the error for a value whose type is not the annotated one."""
    fault = f"expected {wanted}, got {kind_of(value)}" + (f": {fix}" if fix else "")
    return EncodeError(fault, wrong_type=True)


def decode_error(wanted: str, value: object) -> DecodeError:
    """Return the error for JSON data that cannot be decoded to the expected type."""
    return DecodeError(f"expected {wanted}, got {short(value)}", reason="arguments")


def under(name: str, error: DecodeError) -> DecodeError:
    """Return the error with its position prefixed with one more step."""
    text = str(error)
    joint = "" if text.startswith(("[", ".")) else ": "
    return DecodeError(f"{name}{joint}{text}", reason=error.reason)


def short(value: object) -> str:
    """Return a value's repr for a message: truncated, and never raising."""
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001 - a user's own repr
        shown = f"a {type(value).__qualname__}"
    return shown if len(shown) <= 80 else shown[:80] + "…"


def kind_of(value: object) -> str:
    """Return a description of a value's class for a message."""
    return "None" if value is None else f"a value of type {type(value).__qualname__}"
