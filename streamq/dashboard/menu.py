"""The pages of the menu, in their order.

Owns the table of the menu and of the keys that open its pages. Must not know what is on a page.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Item(NamedTuple):
    """A page of the menu: its path, its name, and the key that opens it after `g`."""

    path: str
    name: str
    key: str


MENU: Final = (
    Item("/", "Overview", "o"),
    Item("/tasks", "Tasks", "a"),
    Item("/dead", "Dead letters", "d"),
    Item("/flows", "Flows", "f"),
    Item("/schedule", "Due next", "s"),
    Item("/schedules", "Recurring", "c"),
    Item("/workers", "Workers", "w"),
    Item("/server", "Server", "r"),
    Item("/actions", "Operator log", "l"),
)

SECTIONS: Final = {"types": ""}
"""Pages without an item of their own, by the first part of their path, and the item that they are under."""


def section(path: str) -> str:
    """Return the first part of the path of the item that a page is under."""
    first = path.split("/")[1]
    return SECTIONS.get(first, first)
