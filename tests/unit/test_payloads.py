"""The form of a payload: every argument by its name, readable across signatures."""

from __future__ import annotations

import typing
from datetime import date, datetime
from decimal import Decimal
from typing import (
    Any,
)

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq import InvalidArguments, PayloadError
from streamq.options.task import task_options
from streamq.registry.handler import Handler
from tests.unit.kinds import AT, Base, More

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
    with pytest.raises(PayloadError, match=r"at d: expected a Decimal"):
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
    with pytest.raises(InvalidArguments, match=r"argument who.at: expected datetime, got 'x'"):
        one.payload_by_name({"who": {"x": 1, "at": "x"}})
