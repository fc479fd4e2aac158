"""Completed tasks over all types and shards are listed strictly the newest first, at a bounded cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from streamq import StreamQ
from streamq.control import newest_completed
from streamq.keys import type_keys
from tests.conftest import command

BIG = 2**64 - 1
"""The largest number in an id."""


def complete(app: StreamQ, url: str, name: str, locals_: Iterable[str], minute: int | None = None) -> None:
    """Store results as `settle` does. minute: that of tasks that began in the schedule."""
    keys = type_keys("shop", 0, name)
    command(url, "SADD", "streamq:{shop:0}:types", name)
    for local in locals_:
        of = int(local[1:].partition("-")[0]) // 60_000
        member = f"d{int(local.partition('-')[2]) // 256}" if local[0] == "d" else str(of)
        command(url, "ZADD", keys.buckets, minute or of, member)
        command(url, "HSET", keys.results(local), local, "1")


def walked(app: StreamQ, limit: int) -> list[str]:
    """Return the ids of all completed tasks, page by page."""
    found, cursor = list[str](), ""
    while True:
        page = app.inspector.tasks("completed", cursor=cursor, limit=limit)
        assert len(page.rows) <= limit
        found += [row.id for row in page.rows]
        cursor = page.cursor
        if not cursor:
            return found


def test_two_minutes_of_two_types_are_merged(app: StreamQ, url: str) -> None:
    for name, minutes in (("a", (100, 101)), ("b", (101, 102))):
        complete(app, url, name, [f"n{minute * 60_000 + 5_000}-0" for minute in minutes])
    listed = [row.id for row in app.inspector.tasks("completed").rows]
    assert listed == ["b:0:n6125000-0", "a:0:n6065000-0", "b:0:n6065000-0", "a:0:n6005000-0"]


@pytest.mark.parametrize("limit", [1, 7, 200])
def test_completed_tasks_are_strictly_the_newest_first(app: StreamQ, url: str, limit: int) -> None:
    """To the millisecond and the number in it, over types and across the ends of pages."""
    begin, expected = 1_700_000_040_000, list[tuple[int, int, str]]()
    for name, step, number in (("a", 7, 60), ("b", 450, 40), ("c", 61_000, 9)):
        stamps = [begin + n * step for n in range(number)]
        locals_ = [(stamp, seq) for stamp in stamps for seq in ((9, 10, BIG) if name == "a" else (0,))]
        complete(app, url, name, [f"n{stamp}-{seq}" for stamp, seq in locals_])
        expected += [(stamp, seq, f"{name}:0:n{stamp}-{seq}") for stamp, seq in locals_]
    order = [one for _, _, one in sorted(expected, key=lambda one: (-one[0], -one[1], one[2]))]
    assert walked(app, limit) == order
    assert [row.id for row in app.inspector.tasks("completed", "b", limit=200).rows] == [
        one for one in order if one.startswith("b:")
    ]


def test_a_second_with_too_many_to_sort_loses_none(
    app: StreamQ, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newest_completed, "MOST_ROWS", 5)
    begin = 1_700_000_040_000
    for name in ("a", "b"):
        complete(app, url, name, [f"n{begin + n}-0" for n in range(9)])
        complete(app, url, name, [f"n{begin + 2000 + n}-0" for n in range(2)])
    complete(app, url, "b", [f"d{begin}-{number}" for number in (3, 400)], begin // 60_000)
    found = walked(app, 4)
    assert len(set(found)) == len(found) == 24
    assert [one.partition(":")[0] for one in found] == [*"bb", *"abab", *"a" * 9, *"b" * 9]


def test_a_page_of_completed_tasks_costs_a_bounded_number_of_calls(app: StreamQ, url: str) -> None:
    begin = 1_700_000_040_000
    for name in "abcdefgh":
        complete(app, url, name, [f"n{begin + n * 1500 + ord(name)}-0" for n in range(40)])
    app.inspector.tasks("completed", limit=50)
    before = commands(url)
    page = app.inspector.tasks("completed", limit=50)
    assert commands(url) - before < 500  # those of scripts count as well
    assert len(page.rows) == 50
    assert page.cursor


def commands(url: str) -> int:
    """Return how many commands the server has run."""
    found: Any = command(url, "INFO", "stats")
    return int(found.partition(b"total_commands_processed:")[2].split()[0])
