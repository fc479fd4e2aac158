"""Read query parameters: a list, a filter, a selection of dead letters.

Owns the reading of URLs, for pages and for the API. Raises UsageError if a parameter is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from streamq.control.dead_letters import END_MS, DeadGroups, DeadSelection
from streamq.control.inspector import Inspector
from streamq.control.task_rows import TaskFilter
from streamq.dashboard import views
from streamq.errors import InvalidOption, UsageError
from streamq.model.task import STATES, State
from streamq.options.checks import seconds

R = TypeVar("R")
LISTED: Final = tuple(name for name in STATES if name != "unknown")
PAGE: Final = 50
FILTERS: Final = ("type", "error", "id", "older", "newer", "fingerprint")


def parse_state(text: str) -> State:
    """Return the state of a list. Raise UsageError."""
    for state in STATES:
        if state == text and state != "unknown":
            return state
    raise UsageError(f"Unknown state {text[:40]!r}: use {', '.join(LISTED)}.")


def page_number(query: Mapping[str, str]) -> int:
    """Return the number of a page, from 1. Raise UsageError."""
    text = query.get("page", "") or "1"
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 5 and int(text) > 0):
        raise UsageError(f"Invalid page={text[:40]!r}: use a number from 1.")
    return int(text)


def paged(query: Mapping[str, str], rows: Sequence[R]) -> Sequence[R]:
    """Return the rows on the page of a URL. Raise UsageError."""
    begin = (page_number(query) - 1) * PAGE
    return rows[begin : begin + PAGE]


def paging(query: Mapping[str, str], rows: Sequence[object]) -> dict[str, object]:
    """Return what links to the pages before and after need: their numbers, None at the ends."""
    number = page_number(query)
    last = max(1, -(-len(rows) // PAGE))
    return {
        "number": number, "last": last, "before": min(number - 1, last) or None,
        "after": number + 1 if number < last else None,
        "query": {name: value for name, value in query.items() if name != "page"},
    }  # fmt: skip


def task_filter(query: Mapping[str, str]) -> TaskFilter:
    """Return the filter of a URL. Raise UsageError."""
    return TaskFilter(
        error=query.get("error", "").strip()[:200],
        id=query.get("id", "").strip()[:200],
        older_than=_age(query, "older"),
        newer_than=_age(query, "newer"),
        fingerprint=query.get("fingerprint", "").strip()[:40],
    )


def dead_groups(inspector: Inspector, query: Mapping[str, str]) -> tuple[DeadGroups, DeadSelection]:
    """Return the groups that match a URL, and the selection of their dead letters. Raise UsageError."""
    wanted = task_filter(query)
    name = query.get("type") or None
    return views.dead_groups(inspector, name, wanted.error, wanted.older_than, wanted.newer_than)


def times_as_form(wanted: DeadSelection) -> dict[str, int]:
    """Return the times of a selection as form fields; none without a limit."""
    since = {"since": wanted.since_ms} if wanted.since_ms else {}
    return since | ({"until": wanted.until_ms} if wanted.until_ms < END_MS else {})


def as_form(wanted: DeadSelection) -> dict[str, object]:
    """Return a selection as form fields: type, fingerprint, error, times."""
    return {
        "type": wanted.type, "fingerprint": wanted.fingerprint, "error": wanted.error,
        **times_as_form(wanted),
    }  # fmt: skip


def list_as_form(given: Mapping[str, str], wanted: TaskFilter, now_ms: int) -> dict[str, object]:
    """Return form fields that select everything in a list of dead letters; none if no selection can."""
    if not given["type"] or wanted.error or wanted.id:
        return {}
    older, newer = wanted.older_than, wanted.newer_than
    since = now_ms - round(newer * 1000) if newer is not None else 0
    until = now_ms - round(older * 1000) if older is not None else END_MS
    return as_form(DeadSelection(given["type"], wanted.fingerprint, "", max(0, since), max(0, until)))


def _age(query: Mapping[str, str], name: str) -> float | None:
    text = query.get(name, "").strip()
    if not text:
        return None
    try:
        return seconds(text, name)
    except InvalidOption as error:
        raise UsageError(str(error)) from None
