"""What a page's address asks for: a list, a filter, a selection of dead letters.

Owns the reading of query parameters, for pages and for the API. Raises UsageError if one is wrong.
"""

from __future__ import annotations

from typing import Any, Final

from streamq.control.dead_letters import END_MS, DeadGroups, DeadSelection
from streamq.control.inspector import Inspector
from streamq.control.task_rows import TaskFilter
from streamq.dashboard import views
from streamq.errors import InvalidOption, UsageError
from streamq.model.task import STATES, State
from streamq.options.checks import seconds

LISTED: Final = tuple(name for name in STATES if name != "unknown")


PAGE: Final = 50


FILTERS: Final = ("type", "error", "id", "older", "newer", "fingerprint")


def listed(text: str) -> State:
    for state in STATES:
        if state == text and state != "unknown":
            return state
    raise UsageError(f"There is no list of {text[:40]!r} tasks; there are {', '.join(LISTED)}.")


def task_filter(query: Any) -> TaskFilter:
    """The filter that a page's address asks for. Raises UsageError."""
    return TaskFilter(
        error=query.get("error", "").strip()[:200],
        id=query.get("id", "").strip()[:200],
        older_than=_age(query, "older"),
        newer_than=_age(query, "newer"),
        fingerprint=query.get("fingerprint", "").strip()[:40],
    )


def dead_groups(inspector: Inspector, query: Any) -> tuple[DeadGroups, DeadSelection]:
    """The groups that a page's address asks for, and what selects their letters. Raises UsageError."""
    wanted = task_filter(query)
    name = query.get("type") or None
    return views.dead_groups(inspector, name, wanted.error, wanted.older_than, wanted.newer_than)


def times(wanted: DeadSelection) -> dict[str, int]:
    """The times of a selection as a form says them; none for what is not limited."""
    since = {"since": wanted.since_ms} if wanted.since_ms else {}
    return since | ({"until": wanted.until_ms} if wanted.until_ms < END_MS else {})


def matching(wanted: DeadSelection) -> dict[str, object]:
    """A selection as a form says it: type, fingerprint, error, times."""
    return {
        "type": wanted.type, "fingerprint": wanted.fingerprint, "error": wanted.error, **times(wanted),
    }  # fmt: skip


def all_listed(asked: dict[str, str], wanted: TaskFilter, now_ms: int) -> dict[str, object]:
    """What selects all that a list of dead letters shows on its pages; nothing where no selection can."""
    if not asked["type"] or wanted.error or wanted.id:
        return {}
    older, newer = wanted.older_than, wanted.newer_than
    since = now_ms - round(newer * 1000) if newer is not None else 0
    until = now_ms - round(older * 1000) if older is not None else END_MS
    return matching(DeadSelection(asked["type"], wanted.fingerprint, "", max(0, since), max(0, until)))


def _age(query: Any, name: str) -> float | None:
    text = query.get(name, "").strip()
    if not text:
        return None
    try:
        return seconds(text, name)
    except InvalidOption as error:
        raise UsageError(str(error)) from None
