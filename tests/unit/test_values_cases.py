# ruff: noqa: E501, UP045
"""Single values that came back as others, or not at all: each comes back now, or is refused with its place."""

from __future__ import annotations

import ipaddress
import math
import re
import types
import typing
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    Optional,
    Self,
    cast,
)
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
import pydantic
import pydantic.dataclasses
import pytest
import typing_extensions

from streamq import DecodeError, InvalidArguments, PayloadError
from streamq.convert.round_trip import difference, same
from streamq.options.task import task_options
from streamq.registry.handler import Handler
from tests.unit.kinds import (
    AT,
    Aliased,
    Base,
    Colour,
    Inner,
    Late,
    Level,
    Odd,
    Options,
    Point,
    Sub,
    T,
    Tree,
    Word,
    back,
    handler,
    through,
)

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


@dataclass
class Chain(Generic[T]):
    item: T
    more: list[Self] = field(default_factory=list["Self"])
    last: Self | None = None
    named: dict[str, Annotated[Self, "said of it"]] = field(default_factory=dict[str, "Self"])
    pair: tuple[Self, int] | None = None


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
        (pydantic.AwareDatetime | None, AT.replace(tzinfo=UTC)), (pydantic.FutureDate | None, AT.date()), (dict[pydantic.PastDate, int], {AT.date(): 1}),
        (pydantic.HttpUrl, pydantic.HttpUrl("https://a.b/c?d=e")), (list[pydantic.AnyUrl | None], [pydantic.AnyUrl("x://y"), None]),
        (pydantic.IPvAnyAddress | None, ipaddress.ip_address("::1")), (pydantic.Json | None, [1, None]), (pydantic.ByteSize, pydantic.ByteSize(3)),
        (Callable[[], int], 3), (cast("Any", [int]), [1]), (Chain[date], Chain(AT.date(), [Chain(AT.date())])),
        (Chain[int] | None, Chain(1, last=Chain(2), named={"a": Chain(3)}, pair=(Chain(4), 5))),
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
class Doubled:
    n: int

    def __setattr__(self, name: str, value: int) -> None:
        object.__setattr__(self, name, value * 2)


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
        (Raw, Raw(data=b"\xff"), "Raw cannot be serialized as JSON"),
        (Animal, Lion(name="leo"), "a value of type Lion would come back as Animal"),
        (list[Animal], [Animal(name="a"), Lion(name="leo")], "at x[1]: a value of type Lion"),
        (Base, Sub(1, AT), "a value of type Sub would come back as Base"),
        (Animal | Twin, Twin(name="x"), "tell the members of Animal or Twin apart by a Literal field"),
        (Base | Same, Same(1, AT), "tell the members of Base or Same apart"),
        (Private, private(), "at x._seen"),
        (Renamed, Renamed(b=1, a=2), "at x.a"),
        (Restless, Restless(1), "runs code of its own"),
        (Any, AT, "annotate it as datetime"), (Any, (1, 2), "annotate it as tuple"),
        (dict[str, Any], {"k": [UUID(int=1)]}, "at x.k[0]: a UUID would come back as text"),
        (str, UUID(int=1), "annotate it as UUID"), (list[int], (1, 2), "a tuple would come back as a list"),
        (Any, Colour.RED, "annotate it as Colour"), (Any, {1, 2}, "annotate it as set"),
        (dict[str, int], {1: 2}, "the key 1 is int"), (float, "3", "expected a float"),
        (float, None, "expected a float, got None"), (float, 2**53 + 1, "another value"),
        (float, float("nan"), "nan is not a JSON number"), (Any, [1.0, float("inf")], "at x[1]: inf"),
        (int, 2**64, "more than 64 bits"), (dict[str, int], {"a": 2**64}, "at x.a: an integer of more"),
        (date, AT, "pass value.date()"), (datetime, AT.date(), "expected a datetime"),
        (date | str, "2026-01-01", "both have the same form in JSON"),
        (UUID | str, str(UUID(int=1)), "both have the same form in JSON"),
        (tuple[int, str], (1,), "expected a tuple of 2, got one of 1"), (tuple[int, str], [1, "a"], "a tuple of 2"),
        (deque[int], deque([1], maxlen=3), "maxlen"), (Colour, "r", "expected a Colour"),
        (Literal["a", 1], True, "expected one of 'a', 1"), (Options, {"uid": UUID(int=1)}, "at missing"),
        (Options, {"at": AT, "zz": 1}, "zz unknown"), (list[Base], [Base(1, cast("Any", "x"))], "at x[0].at"),
        (Tree, Tree(Decimal(1), [Tree(cast("Any", "x"))]), "at x.children[0].value"),
        (str, "\ud800", "lone surrogates"), (Any, {"a": b"x"}, "at x.a: bytes have no JSON form"),
        (pydantic.HttpUrl, "https://a.b/", "pass HttpUrl(…)"),
        (pydantic.ImportString, math.cos, "ImportString has no converter"),
        (complex, 1j, "complex has no JSON form"), (range, range(3), "range has no JSON form"),
        (Any, re.compile("a"), "Pattern has no JSON form"), (pydantic.SecretStr, pydantic.SecretStr("hush"), "SecretStr"),
        (defaultdict[str, int], defaultdict(int, a=1), "not as the"), (time, time(1, tzinfo=ZoneInfo("Europe/Berlin")), "another"),
        (Doubled, Doubled(1), "runs code of its own"), (dict[int, int], {2**70: 1}, "more than 64 bits"),
        (dict[tuple[int, ...], int], {(2**70,): 1}, "more than 64 bits"), (dict[tuple[str], int], {("\ud800",): 1}, "surrogates"),
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


@pytest.mark.parametrize("kind", [set, frozenset, cast("Any", set)[Any], cast("Any", set)[tuple[Any, ...]]])
def test_what_no_set_can_hold_is_refused_as_a_result_and_when_it_is_read(kind: Any) -> None:
    one = handler(kind)
    with pytest.raises(PayloadError, match="would come back as lists or dicts"):
        one.encode_result({((1,), 2)})
    with pytest.raises(DecodeError, match="expected items of a"):
        one.decode_result(b"[[[1]]]")
    with pytest.raises(DecodeError, match=r"x: expected items of a"):
        one.arguments(b'{"x":[[[1]]]}')


def test_a_key_that_cannot_be_hashed_is_an_error_of_the_arguments() -> None:
    with pytest.raises(DecodeError, match=r"expected a key that can be hashed"):
        handler(dict[tuple[Any], int]).arguments(b'{"x":{"[[1]]":1}}')


def test_the_unpack_of_typing_extensions_is_read() -> None:
    def work(**options: Any) -> None: ...

    work.__annotations__ = {"options": typing_extensions.Unpack[Options]}
    one = Handler("work", work, task_options({}))
    assert one.arguments(one.payload((), {"at": AT})) == ((), {"at": AT})


def test_a_default_of_none_may_be_passed_too() -> None:
    """As it is in many programs that are older than `int | None`."""

    NO_TIME, NO_ROW = cast("datetime", None), cast("Any", None)

    @dataclass
    class Row:
        at: datetime = NO_TIME

    def work(at: datetime = NO_TIME, *, row: Row = NO_ROW) -> None: ...

    work.__annotations__ = {"at": datetime, "row": Row}
    one = Handler("work", work, task_options({}))
    for row in (None, Row(), Row(AT)):
        assert one.arguments(one.payload((None,), {"row": row})) == ((), {"at": None, "row": row})


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
    with pytest.raises(PayloadError, match=r"the result of task type 'work' .* at pw|no JSON form"):
        one.encode_result({"pw": pydantic.SecretStr("hush")})


def test_what_older_releases_wrote_is_read() -> None:
    one = handler(Odd)
    assert one.arguments(b'{"x":[1,2]}') == ((), {"x": Odd.PAIR})
    assert one.arguments(b'{"x":"1.50"}') == ((), {"x": Odd.PRICE})
    assert handler(Late).arguments(orjson.dumps({"x": {"name": "a", "shown": "b", "made": "2026-01-01"}}))
    assert handler(timedelta).arguments(b'{"x":1.5}') == ((), {"x": timedelta(seconds=1.5)})
    assert handler(Point).arguments(b'{"x":[1,"2026-01-02"]}')[1]["x"] == Point(1, date(2026, 1, 2))


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


@pytest.mark.parametrize(
    "moment",
    [
        datetime(
            2000, 3, 26, 2, 0, tzinfo=ZoneInfo("Europe/Berlin")
        ),  # does not exist: the clock was put forward
        datetime(2000, 10, 29, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")),  # is there twice
        datetime(2000, 10, 29, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=12))),
    ],
)
def test_moments_at_which_a_clock_is_set_are_keys_too(moment: datetime) -> None:
    for annotation, value in (
        (dict[datetime, int], {moment: 1}),
        (set[datetime], {moment}),
        (datetime, moment),
    ):
        assert difference(value, through(annotation, value)) is None
