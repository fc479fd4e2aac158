"""Lists of several shards as one: in order, each row once, however they lie."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.calls.listing import Row, RowPage
from streamq.control.merged_pages import REFILLS, CursorFormat, MergedPage, MergedPages, Reader
from streamq.errors import UsageError
from streamq.flow import Flow

ROW = st.tuples(st.integers(1, 30), st.sampled_from("abcd"))
SHARDS = st.lists(st.sets(ROW, max_size=20), min_size=1, max_size=4)


def reader(
    rows: set[tuple[int, str]], form: CursorFormat, foreign: set[tuple[int, str]] | None = None
) -> Reader:
    """A shard's list as page_set and page_group read it; what is foreign is looked at and left out."""
    foreign = foreign or set()
    members = sorted(((at, form.mark + local) for at, local in rows | foreign), reverse=True)

    def read(after: str, limit: int) -> Flow[RowPage]:
        at, _, member = after.removeprefix(form.head).partition(" ")
        left = [one for one in members if not after or one < (int(at), member)][:limit]
        cursor = f"{form.head}{left[-1][0]} {left[-1][1]}" if len(left) == limit else ""
        wanted = [(at, one.removeprefix(form.mark)) for at, one in left]
        yield from ()  # it asks nobody
        return RowPage(cursor, [Row("dead", local, "", at) for at, local in wanted if (at, local) in rows])

    return read


def read_page(lists: list[Reader], form: CursorFormat, cursor: str, limit: int) -> MergedPage:
    flow = MergedPages(dict(enumerate(lists)), form).read(cursor, limit)
    with pytest.raises(StopIteration) as end:
        next(flow)
    page: MergedPage = end.value.value
    return page


def walk(lists: list[Reader], form: CursorFormat, limit: int) -> list[tuple[int, str, int]]:
    seen, cursor = list[tuple[int, str, int]](), ""
    for _ in range(200):
        page = read_page(lists, form, cursor, limit)
        assert len(page.rows) <= limit
        seen += [(row.at_ms, row.local, shard) for shard, row in page.rows]
        cursor = page.cursor
        if not cursor:
            return seen
    raise AssertionError("it never ends")


@given(
    SHARDS, st.integers(1, 7), st.sampled_from([CursorFormat(), CursorFormat("aaa "), CursorFormat("", "x")])
)
def test_each_row_once_the_newest_first(
    shards: list[set[tuple[int, str]]], limit: int, form: CursorFormat
) -> None:
    want = sorted(((at, local, n) for n, rows in enumerate(shards) for at, local in rows), reverse=True)
    assert walk([reader(rows, form) for rows in shards], form, limit) == want


def test_a_list_with_few_that_are_wanted_ends_its_pages_early() -> None:
    foreign = {(n, "f") for n in range(1000)}
    lists = [reader({(1, "a")}, CursorFormat(), foreign), reader({(1, "a"), (2000, "b")}, CursorFormat())]
    page = read_page(lists, CursorFormat(), "", 1)
    assert [row.at_ms for _, row in page.rows] == [2000]
    page = read_page(lists, CursorFormat(), page.cursor, 2)
    assert (page.rows, page.cursor.split()[0]) == ([], str(1000 - 2 * REFILLS - 2))
    assert walk(lists, CursorFormat(), 7) == [(2000, "b", 1), (1, "a", 1), (1, "a", 0)]


def test_one_shard_with_all_of_them_is_read_twice() -> None:
    asked: list[int] = []
    full = reader({(n, "a") for n in range(500)}, CursorFormat())

    def counted(after: str, limit: int) -> Flow[RowPage]:
        asked.append(limit)
        return full(after, limit)

    page = read_page([counted, *[reader(set(), CursorFormat())] * 15], CursorFormat(), "", 200)
    assert (len(page.rows), asked) == (200, [13, 187])


@pytest.mark.parametrize("cursor", ["x", "1", "1 n1-0", "1 -1 n1-0", "\u00b2 1 a"])
def test_a_strange_cursor_is_refused(cursor: str) -> None:
    lists = MergedPages(dict(enumerate([reader(set(), CursorFormat())] * 2)), CursorFormat())
    with pytest.raises(UsageError, match="use one returned by a previous page"):
        next(lists.read(cursor, 5))
