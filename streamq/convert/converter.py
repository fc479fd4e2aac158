"""What a converter is, and the two ways in which one says no.

Owns `Converter`, the error of each direction with its place, and how a value is shown in them. Knows no
annotation.
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
    """trusting: what is written now is read back by a converter further out, which must not be done at each
    level: a tree of unions would take exponential time."""

    trusting = False


STATE: Final = _State()


@dataclass(slots=True)
class Converter:
    """One annotation in both directions.

    name: for messages. encode: a value -> plain JSON data; raises Refused for what would not come back.
    decode: JSON data -> the value, raises DecodeError; None where the data is the value.
    json: the classes of the JSON data that `encode` usually writes; empty where it may be any.
    names: of an object's fields, all and those that are required; None where others may be read too.
    kinds: the classes whose values are JSON as they are and need no look, in either direction.
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
        """The value that JSON data stands for."""
        return data if self.decode is None or data.__class__ in self.kinds else self.decode(data)

    def write(self, value: object) -> object:
        """The JSON data of a value."""
        return value if value.__class__ in self.kinds else self.encode(value)

    def claims(self, data: object) -> bool:
        """Whether the form of the data alone lets it be this one's."""
        if self.json and data.__class__ not in self.json:
            return False
        if self.names is None:
            return True
        return isinstance(data, dict) and self.names[1] <= data.keys() <= self.names[0]


class Refused(Exception):
    """A value that must not be sent. `changed`: JSON could hold it, but it would come back as another.
    `unfit`: it is of another kind than the annotation names."""

    def __init__(self, fault: str, *, changed: bool = True, unfit: bool = False) -> None:
        super().__init__(fault)
        self.fault = fault
        self.changed = changed
        self.unfit = unfit
        self._path: list[str] = []

    def under(self, name: str) -> Refused:
        """The same error with one more level of its place in front."""
        self._path.append(name)
        return self

    @property
    def place(self) -> str:
        """Where in the value, such as `items[3].price`; empty for the value itself."""
        steps = self._path[::-1]
        shown = [*steps[:12], "…"] if len(steps) > 12 else steps
        return "".join(shown).lstrip(".")


def wrong(wanted: str, value: object, fix: str = "") -> Refused:
    """The refusal of a value that is not of the kind that the annotation names."""
    fault = f"{wanted} is wanted, not {kind_of(value)}" + (f": {fix}" if fix else "")
    return Refused(fault, unfit=True)


def misfit(wanted: str, value: object) -> DecodeError:
    """The error for JSON data that cannot become what was wanted."""
    return DecodeError(f"wanted {wanted}, got {short(value)}", reason="arguments")


def under(name: str, error: DecodeError) -> DecodeError:
    """The error with one more level of its place in front."""
    text = str(error)
    joint = "" if text.startswith(("[", ".")) else ": "
    return DecodeError(f"{name}{joint}{text}", reason=error.reason)


def short(value: object) -> str:
    """A value as a message shows it: cut, and never raising."""
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001 - a user's own repr
        shown = f"a {type(value).__qualname__}"
    return shown if len(shown) <= 80 else shown[:80] + "…"


def kind_of(value: object) -> str:
    """The class of a value, as a message names it."""
    return "None" if value is None else f"a value of type {type(value).__qualname__}"
