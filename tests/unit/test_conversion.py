"""Python values -> JSON -> the types that annotations ask for; and what is said where that cannot be."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict
from uuid import UUID

import orjson
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.convert.compile import converter
from streamq.convert.encoding import encode, encode_as
from streamq.errors import DecodeError, InvalidArguments, PayloadError


class Colour(Enum):
    RED = "r"
    GREEN = 2


class Level(IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    on: date


class Options(TypedDict, total=False):
    at: datetime


@dataclass(frozen=True)
class Node:
    at: datetime
    children: list[Node] = field(default_factory=list["Node"])
    colour: Colour = Colour.RED


class Model(pydantic.BaseModel):
    amount: Decimal
    when: datetime | None = None


Key = NewType("Key", UUID)
NOW = datetime.fromisoformat("2026-11-24T12:00:00.123456+00:00")
UID = UUID(int=7)


def there_and_back(value: Any, annotation: Any) -> Any:
    one = converter(annotation)
    return one.read(orjson.loads(encode_as(one, value, what="x")))


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (NOW, datetime), (NOW.replace(tzinfo=None), datetime), (NOW.date(), date), (time(1, 2, 3), time),
        (timedelta(seconds=1.5), timedelta), (UID, UUID), (UID, Key), (Decimal("1.10"), Decimal),
        (Colour.GREEN, Colour), (Level.LOW, Level), (Path("/a/b"), Path), (3.0, float), (5, int), ("x", str),
        (Node(NOW, [Node(NOW)], Colour.GREEN), Node), (Point(1, NOW.date()), Point), ({"at": NOW}, Options),
        (Model(amount=Decimal("9.99"), when=NOW), Model), ([NOW], list[datetime]),
        ((1, NOW), tuple[int, datetime]),
        ((UID, UID), tuple[UUID, ...]), ({UID}, set[UUID]), (frozenset({UID}), frozenset[UUID]),
        (deque([UID]), deque[UUID]), ({1: NOW}, dict[int, datetime]), ({UID: 1}, dict[UUID, int]),
        ({"a": [NOW]}, dict[str, list[datetime]]), (None, datetime | None), (NOW, datetime | None),
        ("text", date | str), (NOW.date(), date | str), (5, int | str), ("a", Literal["a", "b"]),
        (NOW, Annotated[datetime, "meta"]), ({"a": 1}, dict), ([1, "x", None], list), ({"x": [1]}, Any),
    ],
)  # fmt: skip
def test_there_and_back(value: Any, annotation: Any) -> None:
    found = there_and_back(value, annotation)
    assert found == value
    assert type(found) is type(value)


@given(
    st.datetimes(timezones=st.none() | st.timezones()),
    st.uuids(),
    st.decimals(allow_nan=False, allow_infinity=False),
)
def test_any_value_comes_back(when: datetime, uid: UUID, amount: Decimal) -> None:
    offset = when.utcoffset()
    if offset is None or offset.total_seconds() % 60 == 0:  # RFC 3339 has no seconds in an offset
        found = there_and_back(when, datetime)
        # Where a clock is set, datetimes of two zones are never equal: the moment is what counts.
        assert (found == when) if when.tzinfo is None else (found.astimezone(UTC) == when.astimezone(UTC))
    assert there_and_back(uid, UUID) == uid
    assert there_and_back(amount, Decimal) == amount


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"b": b"x"}, "at b: bytes have no JSON form: pass text (base64)"),
        ({"n": [1.0, float("nan")]}, "at n[1]: nan is not a JSON number: pass None"),
        ({"n": {"x": float("inf")}}, "at n.x: inf is not a JSON number"),
        ({"i": 2**70}, "at i: an integer of more than 64 bits"),
        (
            {"d": {1: 2}},
            "at d: the key 1 is int, and JSON keys are text: use str keys, or annotate dict[int, …]",
        ),
        ({"o": object()}, "at o: object has no JSON form: pass its id, a dict or a dataclass"),
        ({"s": "\ud800"}, "at s: the text has lone surrogates"),
        ({"l": LOOP}, "nested deeper than 200 levels, or contains itself"),
        ({"f": lambda: 1}, "at f: function has no JSON form"),
        ({"x": [Node(NOW), Node(b"")]}, "at x[1].at: bytes have no JSON form"),  # type: ignore[arg-type]
    ],
)
def test_what_json_cannot_hold(value: Any, said: str) -> None:
    with pytest.raises(PayloadError, match=re.escape(said)) as caught:
        encode(value, what="the arguments of task type 'email'")
    assert str(caught.value).startswith("the arguments of task type 'email' cannot be JSON")


def test_null_is_fine_where_it_is_none() -> None:
    assert encode({"a": None, "b": [None, "null"]}, what="x") == b'{"a":null,"b":[null,"null"]}'


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (datetime, 5, "expected datetime, got 5"),
        (datetime, "2020-13-45", "expected datetime, got '2020-13-45'"),
        (UUID, "x", "expected UUID, got 'x'"),
        (Decimal, "x", "expected Decimal, got 'x'"),
        (Colour, "blue", "expected Colour, got 'blue'"),
        (list[UUID], ["x"], "[0]: expected UUID, got 'x'"),
        (list[UUID], 5, "expected a list, got 5"),
        (dict[str, UUID], {"k": 1}, ".k: expected UUID, got 1"),
        (dict[int, str], {"k": "v"}, "expected a key that is int, got 'k'"),
        (tuple[int, int], [1], "expected a list of 2, got [1]"),
        (Literal["a", "b"], "c", "expected one of 'a', 'b', got 'c'"),
        (Node, {"at": "x"}, ".at: expected datetime, got 'x'"),
        (Node, {}, "Node: at missing"),
        (Node, {"at": NOW.isoformat(), "zz": 1}, "Node: zz unknown"),
        (Node, {"at": NOW.isoformat(), "children": [{"at": 1}]}, ".children[0].at: expected datetime, got 1"),
        (datetime | UUID, "x", "expected datetime or UUID, got 'x'"),
        (Model, {}, "Model: 1 validation error"),
        (datetime, "x" * 500, "…"),
    ],
)
def test_what_does_not_fit(annotation: Any, value: Any, said: str) -> None:
    with pytest.raises(DecodeError, match=re.escape(said)) as caught:
        converter(annotation).read(value)
    assert caught.value.reason == "arguments"


@pytest.mark.parametrize("annotation", [bytes, list[bytes], dict[str, bytearray]])
def test_bytes_cannot_be_asked_for(annotation: Any) -> None:
    with pytest.raises(InvalidArguments, match="bytes cannot be an argument: JSON has none. Take text"):
        converter(annotation)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (str, "x"), (int, 3), (bool, True), (Any, {"a": [1]}), (object, 1.5), (dict, {"a": None}),
        (list, [[]]), (list[int], [1, 2]), (dict[str, int], {"a": 1}), (str | None, None),
        (list[dict[str, bool]] | int, [{}]),
    ],
)  # fmt: skip
def test_what_needs_no_conversion_is_passed_on_as_it_is(annotation: Any, value: Any) -> None:
    one = converter(annotation)
    assert one.plain
    assert one.read(value) is value
    assert one.write(value) == value
