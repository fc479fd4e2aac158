# ruff: noqa: E501
"""What an annotation names is what is sent and what the handler gets: scalars, their containers, fields.

Pydantic's strict mode is the judge of what fits; where this one is of another mind, it is said here.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import orjson
import pydantic
import pytest
import typing_extensions
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamq import InvalidArguments, PayloadError
from streamq.convert.compile import converter
from streamq.errors import DecodeError
from streamq.options.task import task_options
from streamq.registry.handler import Handler
from tests.unit.kinds import DICT, LIST, TUPLE, UNION, handler, through

QUICK = settings(deadline=None, max_examples=400, suppress_health_check=list(HealthCheck))


class Level(IntEnum):
    LOW = 1


class Text(str):
    __slots__ = ()


class Whole(int): ...


@dataclass
class Line:
    sku: str
    n: int = 1


class Pair(NamedTuple):
    name: str
    number: int


class Fields(TypedDict, total=False):
    name: str
    tags: list[str]


def mail(to: str, n: int, tags: list[int], body: str = "", *, urgent: bool = False) -> None: ...


MAIL = Handler("mail", mail, task_options({}))

# -- by example ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((3, 1, [1]), {}, "at to: expected a str, got a value of type int"),
        (("a", "x", [1]), {}, "at n: expected an int, got a value of type str"),
        (("a", True, [1]), {}, "at n: expected an int, got a value of type bool"),
        (("a", 1.0, [1]), {}, "at n: expected an int, got a value of type float"),
        (("a", None, [1]), {}, "at n: expected an int, got None"),
        (("a", 1, ["a"]), {}, "at tags[0]: expected an int, got a value of type str"),
        (("a", 1, [1, 2, True]), {}, "at tags[2]: expected an int, got a value of type bool"),
        (("a", 1, "abc"), {}, "at tags: expected a list, got a value of type str"),
        (("a", 1, {"a": 1}), {}, "at tags: expected a list, got a value of type dict"),
        (("a", 1, [1]), {"urgent": 1}, "at urgent: expected a bool, got a value of type int"),
        (("a", 1, [1], None), {}, "at body: expected a str, got None"),
    ],
)
def test_a_wrong_scalar_is_refused_in_the_callers_line(args: Any, kwargs: Any, said: str) -> None:
    with pytest.raises(PayloadError, match=re.escape(said)) as caught:
        MAIL.payload(args, kwargs)
    assert str(caught.value).startswith("the arguments of task type 'mail' cannot be sent as annotated at ")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"to": 3, "n": 1, "tags": []}, "argument to: expected str, got 3"),
        ({"to": "a", "n": "x", "tags": []}, "argument n: expected int, got 'x'"),
        ({"to": "a", "n": "3", "tags": []}, "argument n: expected int, got '3'"),
        ({"to": "a", "n": 1.0, "tags": []}, "argument n: expected int, got 1.0"),
        ({"to": "a", "n": False, "tags": []}, "argument n: expected int, got False"),
        ({"to": "a", "n": 1, "tags": ["a"]}, "argument tags[0]: expected int, got 'a'"),
        ({"to": "a", "n": 1, "tags": {}}, "argument tags: expected a list, got {}"),
        ({"to": "a", "n": 1, "tags": [], "body": None}, "argument body: expected str, got None"),
        ({"to": "a", "n": 1, "tags": [], "urgent": 0}, "argument urgent: expected bool, got 0"),
    ],
)
def test_a_wrong_scalar_is_refused_in_the_worker_and_by_send(sent: dict[str, Any], said: str) -> None:
    with pytest.raises(DecodeError, match=re.escape(said)) as caught:
        MAIL.arguments(orjson.dumps(sent))
    assert caught.value.reason == "arguments"
    with pytest.raises(InvalidArguments, match=re.escape(said)):
        MAIL.payload_by_name(sent)


@pytest.mark.parametrize(
    ("annotation", "value", "found"),
    [
        (float, 3, 3.0), (Decimal, 3, Decimal(3)), (list[float], [1, 2.5], [1.0, 2.5]), (int, Whole(3), 3),
        (str, Text("a"), "a"), (int, Level.LOW, 1), (Level, 1, Level.LOW), (int | str, Text("a"), "a"),
        (dict[str, int], {"a": Whole(1)}, {"a": 1}), (list[int], [Whole(1)], [1]), (Sequence, [1], [1]),
        (Mapping, {"a": 1}, {"a": 1}), (Iterable, [1], [1]), (list[list[int]], [[1]], [[1]]),
        (list[int] | str | None, None, None), (list[int] | str | None, [2], [2]), (list[int] | list[str], ["a"], ["a"]),
        (int | list[UUID], 5, 5), (int | list[UUID], [UUID(int=1)], [UUID(int=1)]), (Line | int, 3, 3),
    ],
)  # fmt: skip
def test_what_loses_nothing_is_taken(annotation: Any, value: Any, found: Any) -> None:
    back = through(annotation, value)
    assert back == found
    assert type(back) is type(found)


@pytest.mark.parametrize(
    ("annotation", "value", "place"),
    [
        (float, True, "x"), (Decimal, True, "x"), (float, "1.5", "x"), (Whole, True, "x"), (Level, True, "x"),
        (Level, 1.0, "x"), (list, (), "x"), (list, "abc", "x"), (list, {}, "x"), (dict, [], "x"), (dict, "a", "x"),
        (list[Any], {}, "x"), (list[Any], "abc", "x"), (dict[str, Any], [], "x"), (Sequence, {}, "x"),
        (Mapping, [], "x"), (set[int], {"a"}, "x[0]"), (tuple[int, ...], ("a",), "x[0]"), (deque[str], deque([1]), "x[0]"),
        (tuple[int, str], (1, 2), "x[1]"), (list[list[int]], [[1], ["a"]], "x[1][0]"),
        (dict[str, int], {"a": "b"}, "x.a"), (dict[str, list[int]], {"a": [1, "b"]}, "x.a[1]"),
        (dict[int, str], {1: 2}, "x.1"), (Line, Line(1, 2), "x.sku"), (Line, Line("a", []), "x.n"),  # type: ignore[arg-type]
        (list[Line], [Line("a", True)], "x[0].n"), (Pair, Pair("a", "b"), "x.number"),  # type: ignore[arg-type]
        (Fields, {"tags": ["a", 1]}, "x.tags[1]"), (Fields, {"name": None}, "x.name"), (str | None, 3, "x"),
        (int | str, True, "x"), (int | str, [1], "x"), (list[int] | str, [1, "a"], "x[1]"), (int | UUID, True, "x"),
        (Literal["a", 1], True, "x"), (None, 0, "x"), (bool, 1, "x"), (str, b"a", "x"),
    ],
)  # fmt: skip
def test_what_is_of_another_kind_is_refused_with_its_place(annotation: Any, value: Any, place: str) -> None:
    with pytest.raises(PayloadError, match=f"at {re.escape(place)}: "):
        through(annotation, value)


@pytest.mark.parametrize(
    ("annotation", "data"),
    [
        (float, True), (float, "1.5"), (Decimal, True), (Decimal, []), (Whole, "3"), (Text, 3), (timedelta, True),
        (Path, 1), (IPv4Address, 5), (UUID, 5), (date, 5), (datetime, 5), (Level, True), (Level, 1.0),
        (list, {}), (dict, []), (Sequence, "abc"), (Mapping, []), (list[int], [1, None]), (set[int], [True]),
        (tuple[int, str], [1, 1]), (tuple[str, ...], [1]), (dict[str, int], {"a": "b"}), (Line, {"sku": 1}),
        (Pair, ["a", "b"]), (Pair, {"name": "a", "number": 1.5}), (Fields, {"tags": [1]}), (int | str, 1.5),
        (str | None, 3), (int | UUID, True), (list[int] | str, [1, "a"]), (Line | int, {"sku": 1}), (None, 0),
    ],
)  # fmt: skip
def test_json_of_another_kind_is_a_dead_letter(annotation: Any, data: Any) -> None:
    with pytest.raises(DecodeError) as caught:
        handler(annotation).arguments(orjson.dumps({"x": data}))
    assert caught.value.reason == "arguments"


def test_every_part_of_a_signature_is_held_to_its_annotation() -> None:
    def work(a: int, /, b: str, *rest: int, c: bool, **more: str) -> None: ...

    one = Handler("work", work, task_options({}))
    good = one.payload((1, "b", 2, 3), {"c": True, "d": "x"})
    assert one.arguments(good) == ((1, "b", 2, 3), {"c": True, "d": "x"})
    for args, kwargs, place in (
        (("1", "b"), {"c": True}, "a"), ((1, 2), {"c": True}, "b"), ((1, "b", 2, "3"), {"c": True}, "rest[1]"),
        ((1, "b"), {"c": 1}, "c"), ((1, "b"), {"c": True, "d": 1}, "d"),
    ):  # fmt: skip
        with pytest.raises(PayloadError, match=re.escape(f" at {place}: ")):
            one.payload(args, kwargs)
    for wrong in ({"a": "1"}, {"b": 2}, {"rest": [2, "3"]}, {"rest": 2}, {"c": 1}, {"d": 1}):
        with pytest.raises(DecodeError) as caught:
            one.arguments(orjson.dumps(orjson.loads(good) | wrong))
        assert caught.value.reason == "arguments"


def test_a_result_is_held_to_its_annotation() -> None:
    one = handler(Any, list[int])
    assert one.decode_result(one.encode_result([1, 2])) == [1, 2]
    with pytest.raises(
        PayloadError, match=r"the result of task type 'work' cannot be sent as annotated at \[1\]"
    ):
        one.encode_result([1, "a"])
    with pytest.raises(DecodeError, match=r"\[0\]: expected int, got 'a'"):
        one.decode_result(b'["a"]')


# -- by Pydantic's strict mode -------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "1", "1.5"]) | st.sampled_from([0.0, 1.5, -2.0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "name", "sku", "n", "tags"]), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
# Not Literal[1]: Pydantic takes True for it, streamq does not.
LEAVES: list[Any] = [str, int, bool, float, None, Any, list, dict, Line, Fields, Literal["a", 2]]
ANNOTATIONS = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        inner.map(lambda a: LIST[a]),
        inner.map(lambda a: DICT[str, a]),
        inner.map(lambda a: TUPLE[a, ...]),
        st.tuples(inner, inner).map(lambda ab: TUPLE[ab[0], ab[1]]),
        st.tuples(inner, inner).map(lambda ab: UNION[ab[0], ab[1]]),
    ),
    max_leaves=4,
)


def fits(annotation: Any, data: Any) -> bool:
    """Whether Pydantic takes the JSON data for the annotation, strictly and without a field that is too many."""
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(_forbidding(annotation))
    try:
        adapter.validate_json(orjson.dumps(data), strict=True)
    except pydantic.ValidationError:
        return False
    return True


_Forbidding = pydantic.with_config(pydantic.ConfigDict(extra="forbid"))


class _Fields(typing_extensions.TypedDict, total=False):
    name: str
    tags: list[str]


@pydantic.dataclasses.dataclass(config=pydantic.ConfigDict(extra="forbid"))
class _Line:
    sku: str
    n: int = 1


_FORBIDDING: dict[Any, Any] = {Line: _Line, Fields: _Forbidding(_Fields)}


def _forbidding(annotation: Any) -> Any:
    """The annotation with classes that take no unknown fields, as ours never do."""
    args = getattr(annotation, "__args__", None)
    if not args or getattr(annotation, "__origin__", None) is Literal:
        return _FORBIDDING.get(annotation, annotation)
    made = tuple(_forbidding(arg) for arg in args)
    if getattr(annotation, "__origin__", None) is None or annotation.__origin__ is UNION:
        return UNION[made]
    return annotation.__origin__[made]


@QUICK
@example(int, True)
@example(float, 1)
@example(float, True)
@given(ANNOTATIONS, JSON)
def test_json_is_read_where_pydantic_would_strictly(annotation: Any, data: Any) -> None:
    one = converter(annotation)
    try:
        one.read(orjson.loads(orjson.dumps(data)))
    except DecodeError:
        assert not fits(annotation, data), (annotation, data)
    else:
        assert fits(annotation, data), (annotation, data)


@QUICK
@given(ANNOTATIONS, JSON)
def test_what_is_sent_is_what_the_annotation_names(annotation: Any, value: Any) -> None:
    """Whatever `enqueue` takes, the worker takes; and what it takes is of the annotated kind."""
    one = handler(annotation)
    try:
        raw = one.payload((value,), {})
    except PayloadError:
        return
    assert one.arguments(raw)
    assert fits(annotation, orjson.loads(raw)["x"]), (annotation, value)
