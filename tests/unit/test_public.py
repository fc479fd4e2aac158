"""The public names: all there, and all that is needed to write down what they take and answer."""

from __future__ import annotations

import ast
import builtins
import inspect
import typing
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import pytest

import streamq
from streamq import COUNTERS, Rollup, StreamQ
from streamq.version import package_version

MADE_BY_THE_APP = (
    "TaskHandle", "TaskType", "Inspector", "AsyncInspector", "Admin", "AsyncAdmin", "Tail", "AsyncTail",
    "Context", "Schedules", "AsyncSchedules", "Lifespan", "TaskEvents", "KeyedTask",
    "FlowGraph", "FlowHandle", "Node", "Flows", "AsyncFlows",
)  # fmt: skip
"""Programs get these from an app: what their constructors take is nobody's business."""

ELSEWHERE = {
    *dir(builtins), *dir(typing), "AbstractAsyncContextManager", "AbstractContextManager", "AsyncIterator",
    "Awaitable", "Callable", "Coroutine", "Iterable", "Iterator", "Mapping", "Path", "Sequence",
    "TracebackType", "date", "datetime", "socket", "timedelta", "A", "P", "R", "F", "T", "C_co", "T_co",
    "Listener", "Kind", "_OutputOf", "_OutcomeOf",
}  # fmt: skip


def test_the_public_names_are_all_there() -> None:
    for name in streamq.__all__:
        assert getattr(getattr(streamq, name), "__name__", name) in (name, "Literal", "Union", "Mapping")
    assert streamq.__version__ == package_version()
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        _ = streamq.Nonsense


@pytest.mark.parametrize("name", streamq.__all__)
def test_every_name_in_a_public_annotation_can_be_imported(name: str) -> None:
    for where, annotation in mentioned(getattr(streamq, name)):
        for one in ast.walk(ast.parse(str(annotation), mode="eval")):
            if isinstance(one, ast.Name) and one.id not in ELSEWHERE:
                assert hasattr(streamq, one.id), f"{where}: {one.id} is not in streamq"


def mentioned(found: Any) -> Iterator[tuple[str, Any]]:
    if inspect.isfunction(found):
        yield from ((f"{found.__name__}({a})", text) for a, text in found.__annotations__.items())
    if not inspect.isclass(found):
        return
    for name, text in vars(found).get("__annotations__", {}).items():
        if not name.startswith("_"):
            yield f"{found.__name__}.{name}", text
    for name, member in vars(found).items():
        wanted = name in ("__call__", "__enter__", "__iter__", "__init__") or not name.startswith("_")
        if wanted and not (name == "__init__" and found.__name__ in MADE_BY_THE_APP):
            for argument, text in getattr(function(member), "__annotations__", {}).items():
                yield f"{found.__name__}.{name}({argument})", text


def function(member: Any) -> Any:
    if isinstance(member, property):
        return member.fget
    if isinstance(member, cached_property):
        return member.func
    return getattr(member, "__func__", member) if not inspect.isclass(member) else None


def test_counters_that_count_nothing_are_zero(app: StreamQ) -> None:
    app.send("email", {})
    stats = app.inspector.type_stats("email")
    assert stats.counters == dict.fromkeys(COUNTERS, 0) | {"accepted": 1}
    assert all(COUNTERS.values())  # each says what it counts
    counted = app.inspector.rollups("email")[-1]
    assert isinstance(counted, Rollup)
    assert counted.counts["vanished"] == 0
