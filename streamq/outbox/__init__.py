"""The outbox: tasks as rows of the user's own transaction, and the relay that sends them afterwards.

A task exists if and only if the transaction is committed: the row is part of it. The relay sends each row
under an idempotency key made of its id, and deletes it; whatever dies in between, there is one task. `Outbox`
is for SQLAlchemy 2, `streamq.django.outbox` for Django.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamq import lazy

if TYPE_CHECKING:
    from streamq.outbox.relay import OutboxStatus as OutboxStatus
    from streamq.outbox.sql import Outbox as Outbox
    from streamq.outbox.table import outbox_table as outbox_table

__all__, _named = lazy.names(__name__, {
    "relay": ("OutboxStatus",),
    "sql": ("Outbox",),
    "table": ("outbox_table",),
})  # fmt: skip  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    return _named(name)
