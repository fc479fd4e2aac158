# ruff: noqa: E501, DTZ001, UP007, UP045, FURB157
"""Whatever enqueue takes, the handler gets: the same value again, or a refusal where it was sent.

Hypothesis makes annotations and values of them. Each goes through a handler's payload and back, and through
its result and back.
"""

from __future__ import annotations

import ipaddress
import re
import types
import typing
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from pathlib import Path, PurePosixPath
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

import orjson
import pydantic
import pydantic.dataclasses
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamq import InvalidArguments, PayloadError
from streamq.app import Handler
from streamq.convert.same import difference, same
from streamq.options import task_options

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
    (Checked, st.builds(lambda n, at: Checked(n=n, when=at), WHOLE, NAIVE)),  # type: ignore[call-arg]
]  # fmt: skip
KEYS = [one for one in SCALARS if one[0] is not Decimal] + [(Decimal, st.decimals(allow_nan=False))]


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Annotations that contain others, each with the strategy of its values."""
    keys = st.sampled_from(KEYS)
    hashable = st.sampled_from([*KEYS, (Point, st.builds(Point, WHOLE, st.dates()))])
    return st.one_of(
        inner.map(lambda a: (list[a[0]], st.lists(a[1], max_size=3))),  # type: ignore[name-defined]
        inner.map(lambda a: (Sequence[a[0]], st.lists(a[1], max_size=3))),  # type: ignore[name-defined]
        inner.map(lambda a: (deque[a[0]], st.lists(a[1], max_size=3).map(deque))),  # type: ignore[name-defined]
        inner.map(lambda a: (tuple[a[0], ...], st.lists(a[1], max_size=3).map(tuple))),  # type: ignore[name-defined]
        hashable.map(lambda a: (set[a[0]], st.sets(a[1], max_size=3))),  # type: ignore[name-defined]
        hashable.map(lambda a: (frozenset[a[0]], st.frozensets(a[1], max_size=3))),  # type: ignore[name-defined]
        st.tuples(inner, inner).map(lambda ab: (tuple[ab[0][0], ab[1][0]], st.tuples(ab[0][1], ab[1][1]))),  # type: ignore[name-defined]
        st.tuples(keys, inner).map(lambda ab: (dict[ab[0][0], ab[1][0]], st.dictionaries(ab[0][1], ab[1][1], max_size=3))),  # type: ignore[name-defined]
        st.tuples(keys, inner).map(lambda ab: (Mapping[ab[0][0], ab[1][0]], st.dictionaries(ab[0][1], ab[1][1], max_size=3))),  # type: ignore[name-defined]
        inner.map(lambda a: (OrderedDict[str, a[0]], st.dictionaries(TEXT, a[1], max_size=3).map(OrderedDict))),  # type: ignore[name-defined]
        inner.map(lambda a: (Optional[a[0]], st.none() | a[1])),
        inner.map(lambda a: (Annotated[a[0], "said of it"], a[1])),
        st.tuples(inner, inner).map(lambda ab: (typing.Union[ab[0][0], ab[1][0]], ab[0][1] | ab[1][1])),
    )  # fmt: skip


ANNOTATIONS = st.recursive(st.sampled_from([*SCALARS, *RECORDS]), nested, max_leaves=4)
SURE = st.recursive(st.sampled_from([*SCALARS, *RECORDS]), lambda inner: st.one_of(
    inner.map(lambda a: (list[a[0]], st.lists(a[1], max_size=3))),  # type: ignore[name-defined]
    inner.map(lambda a: (dict[UUID, a[0]], st.dictionaries(st.uuids(), a[1], max_size=3))),  # type: ignore[name-defined]
    st.tuples(inner, inner).map(lambda ab: (tuple[ab[0][0], ab[1][0]], st.tuples(ab[0][1], ab[1][1]))),  # type: ignore[name-defined]
), max_leaves=4)  # fmt: skip
"""Annotations that leave nothing open: every value of them comes back."""

QUICK = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


def check_same(sent: Any, found: Any) -> None:
    assert difference(sent, found) is None, (sent, found, difference(sent, found))
    assert sent.__class__ is found.__class__


@QUICK
@given(st.data())
def test_every_value_comes_back_or_is_refused_in_the_callers_line(data: st.DataObject) -> None:
    annotation, values = data.draw(ANNOTATIONS)
    value = data.draw(values)
    try:
        found = through(annotation, value)
    except (PayloadError, InvalidArguments):
        return
    assert difference(value, found) is None, (annotation, value, found)


@QUICK
@given(st.data())
def test_every_value_of_an_annotation_that_leaves_nothing_open_comes_back(data: st.DataObject) -> None:
    annotation, values = data.draw(SURE)
    value = data.draw(values)
    check_same(value, through(annotation, value))
    check_same(value, back(annotation, value))


@QUICK
@given(st.data())
def test_keys_of_every_kind_come_back(data: st.DataObject) -> None:
    key, keys = data.draw(st.sampled_from(KEYS))
    if typing.get_origin(key) is Literal:
        return  # of several types, whose texts can be the same
    value = data.draw(st.dictionaries(keys, st.integers(0, 5), max_size=4))
    if key is timedelta:
        value = {one: n for one, n in value.items() if abs(one) < timedelta(days=90_000)}
    check_same(value, through(dict[key, int], value))


@QUICK
@given(st.data())
def test_what_no_annotation_promises_comes_back_equal_or_is_refused(data: st.DataObject) -> None:
    _, values = data.draw(ANNOTATIONS)
    value = data.draw(values)
    for annotation in (Any, object, dict[str, Any], int):
        sent = {"k": value} if annotation == dict[str, Any] else value
        try:
            found = through(annotation, sent)
        except PayloadError:
            continue
        assert found == sent or same(sent, found)


# -- the values of the issue, and their kin ------------------------------------------------------------


class UserUUID(UUID):
    """As a database driver's."""


class Frozen(datetime):
    """As a test library's."""


class Number(float):
    """As a numeric library's."""


class Whole(int): ...


class Text(str):
    __slots__ = ()


AT = datetime(2026, 3, 4, 5, 6, 7, 8)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (UUID, UserUUID(int=5)), (datetime, Frozen(2026, 1, 2, 3, tzinfo=UTC)), (float, Number(1.5)),
        (int, Whole(5)), (str, Text("x")), (str, Word.YES), (Any, [Number(1.5), Text("x"), Whole(3)]),
        (dict[str, int], types.MappingProxyType({"a": 1})), (dict, types.MappingProxyType({"a": 1})),
        (dict[str, int], Counter("aab")), (Counter[str], Counter("aab")), (dict, OrderedDict(a=1)),
        (dict[str, int], defaultdict(int, a=1)), (float, 3), (Decimal, 3), (list[datetime] | None, None),
        (dict[bool, int], {True: 1, False: 2}), (dict[Level, int], {Level.LOW: 1}),
        (dict[Decimal, int], {Decimal("1.10"): 1}), (dict[tuple[int, str], int], {(1, "a"): 2}),
        (dict[int | str, int], {1: 2, "a": 3}), (dict[Word, int], {Word.YES: 1}), (dict[None, int], {None: 1}),
        (float, -0.0), (float, 5e-324), (int, 2**64 - 1), (int, -(2**63)), (Decimal, Decimal("-0.00")),
        (Decimal, Decimal("sNaN")), (datetime, AT.replace(fold=1)), (time, time(2, 30, fold=1)),
        (datetime, datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)),
        (timedelta, timedelta.max), (timedelta, timedelta(days=-999999, microseconds=1)),
        (int | float, 1), (int | float, 1.0), (int | bool, True), (int | bool, 1), (date | datetime, AT),
        (date | datetime, AT.date()), (datetime | date, AT.date()), (date | str, "text"),
        (float | str, "1.5"), (Decimal | float, 1.5), (Decimal | float, Decimal("1.5")),
        (Inner | Base, Base(1, AT)), (list[Inner] | Inner, [Inner(amount=Decimal(1))]),
        (Tree | Late, Late("x")), (PurePosixPath, PurePosixPath("a/b")), (tuple[()], ()),
        (tuple[int, ...], ()), (set[frozenset[int]], {frozenset({1, 2}), frozenset({2, 3})}),
        (Whole, Whole(3)), (Text, Text("x")), (UserUUID, UserUUID(int=3)), (Frozen, Frozen(2026, 1, 1)),
        (Mapping[str, Any], {"a": [1, None]}), (ipaddress.IPv4Interface, ipaddress.ip_interface("10.0.0.1/8")),
    ],
)  # fmt: skip
def test_what_comes_back(annotation: Any, value: Any) -> None:
    found = through(annotation, value)
    assert difference(value, found) is None or found == value
    assert same(back(annotation, value), found)
    if isinstance(annotation, type) and annotation is not Any and not typing.get_origin(annotation):
        assert isinstance(found, annotation)


class Secret(pydantic.BaseModel):
    user: str
    password: pydantic.SecretStr


class Excluded(pydantic.BaseModel):
    n: int = 1
    m: int = pydantic.Field(default=2, exclude=True)


class Raw(pydantic.BaseModel):
    data: bytes


class Renamed(pydantic.BaseModel):
    a: int = pydantic.Field(validation_alias="b")
    b: int = pydantic.Field(validation_alias="a")


class Animal(pydantic.BaseModel):
    name: str


class Lion(Animal):
    mane: bool = True


class Twin(pydantic.BaseModel):
    name: str


class Private(pydantic.BaseModel):
    n: int
    _seen: int = 0


@dataclass
class Restless:
    n: int

    def __post_init__(self) -> None:
        self.n += 1


@dataclass
class Same:
    x: int
    at: datetime


def private() -> Private:
    found = Private(n=1)
    found._seen = 5
    return found


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (Secret, Secret(user="u", password=pydantic.SecretStr("hush")), "at x.password"),
        (Excluded, Excluded(m=3), "at x.m"),
        (Raw, Raw(data=b"\xff"), "Raw cannot write itself as JSON"),
        (Animal, Lion(name="leo"), "a value of type Lion would come back as Animal"),
        (list[Animal], [Animal(name="a"), Lion(name="leo")], "at x[1]: a value of type Lion"),
        (Base, Sub(1, AT), "a value of type Sub would come back as Base"),
        (Animal | Twin, Twin(name="x"), "tell the members of Animal or Twin apart by a Literal field"),
        (Base | Same, Same(1, AT), "tell the members of Base or Same apart"),
        (Private, private(), "at x._seen"),
        (Renamed, Renamed(b=1, a=2), "at x.a"),
        (Restless, Restless(1), "code that runs when one is made"),
        (Any, AT, "annotate it as datetime"), (Any, (1, 2), "annotate it as tuple"),
        (dict[str, Any], {"k": [UUID(int=1)]}, "at x.k[0]: a UUID would come back as text"),
        (str, UUID(int=1), "annotate it as UUID"), (list[int], (1, 2), "a tuple would come back as a list"),
        (Any, Colour.RED, "annotate it as Colour"), (Any, {1, 2}, "annotate it as set"),
        (dict[str, int], {1: 2}, "the key 1 is int"), (float, "3", "a float is wanted"),
        (float, None, "a float is wanted, not None"), (float, 2**53 + 1, "another value"),
        (float, float("nan"), "nan is no JSON number"), (Any, [1.0, float("inf")], "at x[1]: inf"),
        (int, 2**64, "more than 64 bits"), (dict[str, int], {"a": 2**64}, "at x.a: an integer of more"),
        (date, AT, "pass value.date()"), (datetime, AT.date(), "a datetime is wanted"),
        (date | str, "2026-01-01", "the data of both look alike"),
        (UUID | str, str(UUID(int=1)), "the data of both look alike"),
        (tuple[int, str], (1,), "a tuple of 2 is wanted, not one of 1"), (tuple[int, str], [1, "a"], "a tuple of 2"),
        (deque[int], deque([1], maxlen=3), "maxlen"), (Colour, "r", "a Colour is wanted"),
        (Literal["a", 1], True, "one of 'a', 1 is wanted"), (Options, {"uid": UUID(int=1)}, "at missing"),
        (Options, {"at": AT, "zz": 1}, "zz unknown"), (list[Base], [Base(1, "x")], "at x[0].at"),
        (Tree, Tree(Decimal(1), [Tree("x")]), "at x.children[0].value"),
        (str, "\ud800", "lone surrogates"), (Any, {"a": b"x"}, "at x.a: bytes are no JSON"),
        (complex, 1j, "complex is no JSON type"), (range, range(3), "range is no JSON type"),
        (Any, re.compile("a"), "Pattern is no JSON type"), (pydantic.SecretStr, pydantic.SecretStr("hush"), "SecretStr"),
        (defaultdict[str, int], defaultdict(int, a=1), "not as the"), (time, time(1, tzinfo=ZoneInfo("Europe/Berlin")), "another"),
        (dict[int | str, int], {"1": 2}, "annotate keys of one type"), (memoryview | None, None, "bytes cannot be"),
    ],
)  # fmt: skip
def test_what_is_refused(annotation: Any, value: Any, said: str) -> None:
    with pytest.raises((PayloadError, InvalidArguments), match=re.escape(said)) as caught:
        through(annotation, value)
    assert "hush" not in str(caught.value)


def test_a_model_with_alias_names_is_read_whichever_way_it_was_written() -> None:
    found = Aliased.model_validate({"eins": 1, "zwei": 2, "three": 3, "inner": {"amount": "1.0"}})
    assert through(Aliased, found) == found
    assert back(Aliased, found) == found


def test_a_required_initvar_fails_with_its_name() -> None:
    @dataclass
    class Needs:
        n: int
        key: InitVar[int]

    with pytest.raises(InvalidArguments, match=r"parameter 'x' .*InitVar 'key' is not kept"):
        handler(Needs).prepare()


def test_a_tree_of_unions_takes_no_exponential_time() -> None:
    value = Branch(Leaf(1), Leaf(2))
    for _ in range(40):
        value = Branch(value, Leaf(Decimal("1.5")))
    assert through(Leaf | Branch, value) == value


@dataclass
class Leaf:
    n: int | Decimal


@dataclass
class Branch:
    left: Leaf | Branch
    right: Leaf | Branch


def test_results_without_an_annotation_are_what_json_makes_of_them() -> None:
    one = handler(Any, Any)
    sent = {"at": AT, "pair": (1, 2), "who": Base(1, AT), 5: Colour.GREEN}
    assert one.decode_result(one.encode_result(sent)) == {
        "at": AT.isoformat(), "pair": [1, 2], "who": {"x": 1, "at": AT.isoformat()}, "5": 2,
    }  # fmt: skip
    with pytest.raises(PayloadError, match=r"the result of task type 'work' .* at pw|no JSON type"):
        one.encode_result({"pw": pydantic.SecretStr("hush")})


def test_what_older_releases_wrote_is_read() -> None:
    one = handler(Odd)
    assert one.arguments(b'{"x":[1,2]}') == ((), {"x": Odd.PAIR})
    assert one.arguments(b'{"x":"1.50"}') == ((), {"x": Odd.PRICE})
    assert handler(Late).arguments(orjson.dumps({"x": {"name": "a", "shown": "b", "made": "2026-01-01"}}))
    assert handler(timedelta).arguments(b'{"x":1.5}') == ((), {"x": timedelta(seconds=1.5)})
    assert handler(Point).arguments(b'{"x":[1,"2026-01-02"]}')[1]["x"] == Point(1, date(2026, 1, 2))


# -- *args and **kwargs ------------------------------------------------------------------------------


def made(function: Any) -> Handler:
    return Handler("work", function, task_options({}))


def test_args_and_kwargs_stand_by_name() -> None:
    def work(a: int, /, b: int = 7, *rest: date, c: int = 3, **more: Decimal) -> None: ...

    one = made(work)
    raw = one.payload((1, 2, date(2026, 1, 1)), {"c": 4, "d": Decimal("1.0")})
    assert orjson.loads(raw) == {"a": 1, "b": 2, "rest": ["2026-01-01"], "c": 4, "d": "1.0"}
    assert one.arguments(raw) == ((1, 2, date(2026, 1, 1)), {"c": 4, "d": Decimal("1.0")})

    sent = {"a": 1, "rest": ["2026-01-01"], "d": "1.0"}
    assert one.arguments(one.payload_by_name(sent)) == ((1, 7, date(2026, 1, 1)), {"d": Decimal("1.0")})
    assert one.arguments(orjson.dumps(sent)) == one.arguments(one.payload_by_name(sent))
    older = b'{"a":1,"b":2,"rest":["2026-01-01"],"more":{"d":"1.0"}}'
    assert one.arguments(older) == ((1, 2, date(2026, 1, 1)), {"d": Decimal("1.0")})
    with pytest.raises(PayloadError, match=r"at d: a Decimal is wanted"):
        one.payload((1,), {"d": "x"})

    def later(a: int, b: int, rest: list[date], d: Decimal, c: int) -> None: ...

    assert made(later).arguments(raw)[1] == {
        "a": 1,
        "b": 2,
        "rest": [date(2026, 1, 1)],
        "c": 4,
        "d": Decimal("1.0"),
    }


@given(
    st.dictionaries(
        st.sampled_from(["a", "rest", "more", "z", "y"]), st.integers() | st.just({"k": 1}), max_size=4
    ),
    st.lists(st.integers(0, 9), max_size=3),
)
def test_any_names_of_kwargs_come_back(more: dict[str, Any], rest: list[int]) -> None:
    def work(a: int, /, *rest: int, **more: Any) -> None: ...

    one = made(work)
    try:
        raw = one.payload((1, *rest), more)
    except PayloadError:
        return  # beyond 64 bits
    assert one.arguments(raw) == ((1, *rest), more)


def test_kwargs_of_a_typed_dict_are_converted_by_name() -> None:
    def work(**more: typing.Unpack[More]) -> None: ...

    one = made(work)
    sent = {"at": AT, "size": Decimal("1.0")}
    assert one.arguments(one.payload((), sent)) == ((), sent)


def test_send_takes_values_and_their_json() -> None:
    def work(who: Base, when: datetime | None = None) -> None: ...

    one = made(work)
    for who in (Base(1, AT), {"x": 1, "at": AT}, {"x": 1, "at": AT.isoformat()}):
        assert one.arguments(one.payload_by_name({"who": who, "when": AT.isoformat()}))[1] == {
            "who": Base(1, AT),
            "when": AT,
        }
    with pytest.raises(InvalidArguments, match=r"argument who.at: wanted datetime, got 'x'"):
        one.payload_by_name({"who": {"x": 1, "at": "x"}})


# -- depth ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("annotation", [Any, list, dict[str, Any], Optional[list], list[Any]])
def test_there_is_one_limit_of_depth(annotation: Any) -> None:
    value: Any = []
    for _ in range(197):
        value = [value]
    sent = {"k": value} if annotation == dict[str, Any] else [value]
    raw = handler(annotation).payload((sent,), {})
    assert handler(annotation).arguments(raw) == ((), {"x": sent})
    with pytest.raises(PayloadError, match="nested deeper than 200 levels"):
        handler(annotation).payload(([sent] if annotation != dict[str, Any] else {"k": sent},), {})
    with pytest.raises(PayloadError, match="nested deeper than 200 levels"):
        handler(Any).encode_result([[sent]])
