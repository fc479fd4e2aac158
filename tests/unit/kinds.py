# ruff: noqa: E501, DTZ001, FURB157
"""Kinds of annotations with values of each, for the tests of conversion, and the way of a value there and back."""

from __future__ import annotations

import ipaddress
import typing
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
)
from uuid import UUID
from zoneinfo import ZoneInfo

import pydantic
import pydantic.dataclasses
from hypothesis import strategies as st

from streamq.options.task import task_options
from streamq.registry.handler import Handler

AT = datetime(2026, 3, 4, 5, 6, 7, 8)
T = TypeVar("T")


def handler(annotation: Any, returns: Any = None) -> Handler:
    def work(x: Any) -> None: ...

    work.__annotations__ = {"x": annotation, "return": annotation if returns is None else returns}
    return Handler("work", work, task_options({}))


def through(annotation: Any, value: Any) -> Any:
    one = handler(annotation)
    args, kwargs = one.arguments(one.payload((value,), {}))
    assert not args
    return kwargs["x"]


def back(annotation: Any, value: Any) -> Any:
    one = handler(annotation)
    return one.decode_result(one.encode_result(value))


# -- kinds of annotations ------------------------------------------------------------------------------


class Colour(Enum):
    RED = "r"
    GREEN = 2
    NO = False
    HALF = 0.5


class Odd(Enum):
    PAIR = (1, 2)
    PRICE = Decimal("1.50")
    DAY = date(2026, 1, 2)
    PLAIN = "plain"
    NAN = float("nan")
    WIDE = 2**80
    LONE = "\ud800"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Word(StrEnum):
    YES = "yes"
    NO = "no"


class Rights(IntFlag):
    READ = 1
    WRITE = 2
    BOTH = 3


@dataclass
class Base:
    x: int
    at: datetime


@dataclass
class Sub(Base):
    y: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slotted:
    _hidden: UUID
    price: Decimal = Decimal("1")
    tags: tuple[str, ...] = ()


@dataclass
class Late:
    name: str
    shown: str = field(init=False)
    made: datetime = field(init=False)
    _seen: set[int] = field(init=False, default_factory=set[int])
    factor: InitVar[int] = 1

    def __post_init__(self, factor: int) -> None:
        self.shown = self.name * factor
        self.made = datetime(2026, 1, 1)


@dataclass
class Tree:
    value: Decimal
    children: list[Tree] = field(default_factory=list["Tree"])


@dataclass
class Box(Generic[T]):
    item: T
    more: list[T] = field(default_factory=list[T])


class Point(NamedTuple):
    x: int
    on: date = date(2026, 1, 1)


class Options(TypedDict, total=False):
    at: Required[datetime]
    uid: UUID


class More(Options):
    size: NotRequired[Decimal]


class Inner(pydantic.BaseModel):
    amount: Decimal
    at: datetime | None = None


class Aliased(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    one: int = pydantic.Field(alias="eins")
    two: int = pydantic.Field(validation_alias="zwei")
    three: int = pydantic.Field(serialization_alias="drei")
    four: int = pydantic.Field(validation_alias=pydantic.AliasChoices("vier", "quatre"), default=4)
    inner: Inner

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        return self.one + self.two


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, frozen=True)
    at: datetime
    uid: UUID
    pair: tuple[int, str]
    names: set[str] = set()


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    lives: int


class Home(pydantic.BaseModel):
    pet: Cat | Dog = pydantic.Field(discriminator="kind")
    _note: str = "private"


class Roots(pydantic.RootModel[list[Inner]]): ...


class Paged(pydantic.BaseModel, Generic[T]):
    items: list[T]


@pydantic.dataclasses.dataclass
class Checked:
    n: int
    at: datetime = pydantic.Field(alias="when")


ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30, seconds=7)), ZoneInfo("Europe/Berlin")])
MOMENTS = st.datetimes(timezones=st.none() | ZONES)
TEXT = st.text(max_size=8)
NAIVE = st.datetimes().map(lambda at: at.replace(fold=0))
"""Pydantic has no form for the second hour of a clock that is put back: such a one is refused."""
WHOLE = st.integers(-(2**63), 2**63)
DECIMALS = st.decimals()
FLOATS = st.floats(allow_nan=False, allow_infinity=False)

SCALARS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, TEXT), (int, WHOLE), (bool, st.booleans()), (float, FLOATS), (None, st.none()),
    (datetime, MOMENTS), (date, st.dates()), (time, st.times()), (timedelta, st.timedeltas()),
    (UUID, st.uuids()), (Decimal, DECIMALS), (Path, TEXT.map(lambda s: Path(s.replace("\0", "")))),
    (ipaddress.IPv4Address, st.ip_addresses(v=4)), (ipaddress.IPv6Address, st.ip_addresses(v=6)),
    (Colour, st.sampled_from(Colour)), (Odd, st.sampled_from(Odd)), (Level, st.sampled_from(Level)),
    (Word, st.sampled_from(Word)), (Rights, st.sampled_from([Rights(0), Rights.READ, Rights.BOTH])),
    (Literal["a", 1, True, None], st.sampled_from(["a", 1, True, None])),
    (Literal[Word.YES, Level.LOW, "x"], st.sampled_from([Word.YES, Level.LOW, "x"])),
]  # fmt: skip

RECORDS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Base, st.builds(Base, WHOLE, MOMENTS)),
    (Sub, st.builds(Sub, WHOLE, MOMENTS, WHOLE)),
    (Slotted, st.builds(Slotted, _hidden=st.uuids(), price=DECIMALS, tags=st.tuples(TEXT))),
    (Late, st.builds(Late, TEXT)),
    (Tree, st.recursive(st.builds(Tree, DECIMALS), lambda t: st.builds(Tree, DECIMALS, st.lists(t, max_size=3)))),
    (Box[datetime], st.builds(Box, MOMENTS, st.lists(MOMENTS, max_size=2))),
    (Point, st.builds(Point, WHOLE, st.dates())),
    (Options, st.fixed_dictionaries({"at": MOMENTS}, optional={"uid": st.uuids()})),
    (More, st.fixed_dictionaries({"at": MOMENTS}, optional={"uid": st.uuids(), "size": DECIMALS})),
    (Inner, st.builds(Inner, amount=st.decimals(allow_nan=False, allow_infinity=False), at=st.none() | NAIVE)),
    (Aliased, st.builds(
        Aliased, eins=WHOLE, zwei=WHOLE, three=WHOLE, vier=WHOLE, inner=st.builds(Inner, amount=st.just(Decimal("1.0")))
    )),
    (Strict, st.builds(Strict, at=NAIVE, uid=st.uuids(), pair=st.tuples(WHOLE, TEXT), names=st.sets(TEXT))),
    (Home, st.builds(Home, pet=st.builds(Cat, lives=WHOLE) | st.builds(Dog, lives=WHOLE))),
    (Cat | Dog, st.builds(Cat, lives=WHOLE) | st.builds(Dog, lives=WHOLE)),
    (Roots, st.lists(st.builds(Inner, amount=st.just(Decimal("1.0"))), max_size=2).map(Roots)),
    (Paged[Inner], st.lists(st.builds(Inner, amount=st.just(Decimal("1.0"))), max_size=2).map(lambda i: Paged[Inner](items=i))),
    (Checked, st.builds(lambda n, at: Checked(n=n, when=at), WHOLE, NAIVE)),
]  # fmt: skip
KEYS = [one for one in SCALARS if one[0] is not Decimal] + [(Decimal, st.decimals(allow_nan=False))]


# Kinds of annotations as values, which a type checker takes for no annotation.
LIST: Any = list
SEQUENCE: Any = Sequence
DEQUE: Any = deque
TUPLE: Any = tuple
SET: Any = set
FROZENSET: Any = frozenset
DICT: Any = dict
MAPPING: Any = Mapping
ORDERED: Any = OrderedDict
OPTIONAL: Any = Optional
ANNOTATED: Any = Annotated
UNION: Any = typing.Union


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Annotations that contain others, each with the strategy of its values."""
    keys = st.sampled_from(KEYS)
    hashable = st.sampled_from([*KEYS, (Point, st.builds(Point, WHOLE, st.dates()))])
    return st.one_of(
        inner.map(lambda a: (LIST[a[0]], st.lists(a[1], max_size=3))),
        inner.map(lambda a: (SEQUENCE[a[0]], st.lists(a[1], max_size=3))),
        inner.map(lambda a: (DEQUE[a[0]], st.lists(a[1], max_size=3).map(deque))),
        inner.map(lambda a: (TUPLE[a[0], ...], st.lists(a[1], max_size=3).map(tuple))),
        hashable.map(lambda a: (SET[a[0]], st.sets(a[1], max_size=3))),
        hashable.map(lambda a: (FROZENSET[a[0]], st.frozensets(a[1], max_size=3))),
        st.tuples(inner, inner).map(lambda ab: (TUPLE[ab[0][0], ab[1][0]], st.tuples(ab[0][1], ab[1][1]))),
        st.tuples(keys, inner).map(lambda ab: (DICT[ab[0][0], ab[1][0]], st.dictionaries(ab[0][1], ab[1][1], max_size=3))),
        st.tuples(keys, inner).map(lambda ab: (MAPPING[ab[0][0], ab[1][0]], st.dictionaries(ab[0][1], ab[1][1], max_size=3))),
        inner.map(lambda a: (ORDERED[str, a[0]], st.dictionaries(TEXT, a[1], max_size=3).map(OrderedDict))),
        inner.map(lambda a: (OPTIONAL[a[0]], st.none() | a[1])),
        inner.map(lambda a: (ANNOTATED[a[0], "said of it"], a[1])),
        st.tuples(inner, inner).map(lambda ab: (UNION[ab[0][0], ab[1][0]], ab[0][1] | ab[1][1])),
    )  # fmt: skip


ANNOTATIONS = st.recursive(st.sampled_from([*SCALARS, *RECORDS]), nested, max_leaves=4)
SURE = st.recursive(st.sampled_from([*SCALARS, *RECORDS]), lambda inner: st.one_of(
    inner.map(lambda a: (LIST[a[0]], st.lists(a[1], max_size=3))),
    inner.map(lambda a: (DICT[UUID, a[0]], st.dictionaries(st.uuids(), a[1], max_size=3))),
    st.tuples(inner, inner).map(lambda ab: (TUPLE[ab[0][0], ab[1][0]], st.tuples(ab[0][1], ab[1][1]))),
), max_leaves=4)  # fmt: skip
"""Annotations that leave nothing open: every value of them comes back."""
