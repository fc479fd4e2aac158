"""Whatever enqueue takes, the handler gets: the same value again, or a refusal where it was sent.

Hypothesis makes annotations and values of them. Each goes through a handler's payload and back, and through
its result and back.
"""

from __future__ import annotations

import typing
from datetime import timedelta
from typing import (
    Any,
    Literal,
)

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamq import InvalidArguments, PayloadError
from streamq.convert.round_trip import difference, same
from tests.unit.kinds import ANNOTATIONS, DICT, KEYS, SURE, back, through

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
    check_same(value, through(DICT[key, int], value))


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
