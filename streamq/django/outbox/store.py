"""The rows of the outbox in a Django database: written in the user's transaction, claimed by the relay.

Owns the queries. What is sent, and what becomes of a refused row, `streamq.outbox` decides.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import Any, Final
from uuid import UUID

from django.db import connections, models, router, transaction

from streamq.app.app import StreamQ
from streamq.app.bound_task import Bound
from streamq.django.connections import tidy
from streamq.django.home import get_app
from streamq.django.outbox.models import OutboxRow
from streamq.options.checks import Duration
from streamq.outbox.relay import Change, OutboxStatus, Relay
from streamq.outbox.row import Row, now_ms, rows_of

_NAMES: Final = tuple(one.name for one in fields(Row))
_ERRORS: Final = 10
_MANAGER: Final[Any] = getattr(OutboxRow, "_default_manager")  # noqa: B009 - no type checker knows it


class DjangoOutbox(Relay):
    """The outbox of a backend. alias: of TASKS. database: where the rows are; default: where the database
    routers put them."""

    def __init__(
        self,
        alias: str = "default",
        database: str | None = None,
        *,
        window: Duration = "24h",
        batch: int = 500,
        immediate: bool = True,
    ) -> None:
        super().__init__(window=window, batch=batch, immediate=immediate)
        self._alias, self._database = alias, database

    @property
    def app(self) -> StreamQ:
        """The app that the tasks are sent with."""
        return get_app(self._alias)

    @property
    def database(self) -> str:
        """The alias of the database that has the rows."""
        found: str = self._database or router.db_for_write(OutboxRow)
        return found

    def _rows(self) -> Any:
        return _MANAGER.using(self.database).filter(app=self.app.name)

    def write(self, app: StreamQ, call: Bound[Any]) -> UUID:
        """Write a call as a row of the open transaction; return its id. Raises InvalidOption."""
        [row] = rows_of(app, [call])
        _MANAGER.using(self.database).create(**asdict(row))
        return row.id

    @contextmanager
    def claimed(self, ids: Sequence[UUID] | None = None) -> Generator[_Claim]:
        """Lock rows in a transaction."""
        database = self.database
        atomic: Any = transaction.atomic(using=database)
        with atomic:
            due = self._rows().filter(not_before_ms__lte=now_ms())
            if ids is not None:
                due = due.filter(pk__in=ids)
            if connections[database].features.has_select_for_update_skip_locked:
                due = due.select_for_update(skip_locked=True)
            listed = due.order_by("pk").values_list(*_NAMES)[: self.batch]
            yield _Claim(self._rows(), [_row(one) for one in listed])

    def relay_once(self, ids: Sequence[UUID] | None = None) -> int:
        """Send the rows of one pass, on a usable connection."""
        if ids is None:  # the relay; after a commit the connection is the caller's
            tidy()
        return super().relay_once(ids)

    def status(self) -> OutboxStatus:
        """Return what is in the outbox."""
        waiting, parked = self._rows().exclude(not_before_ms=None), self._rows().filter(not_before_ms=None)
        found = waiting.aggregate(
            count=models.Count("pk"), oldest=models.Min("created_ms"), tries=models.Max("tries")
        )
        age = max(0.0, (now_ms() - found["oldest"]) / 1000) if found["oldest"] else 0.0
        errors = {str(pk): error for pk, error in parked.values_list("pk", "error")[:_ERRORS]}
        return OutboxStatus(found["count"], parked.count(), age, found["tries"] or 0, errors)

    def retry(self) -> int:
        """Let parked rows be sent again, as if they were new; return how many."""
        now = now_ms()
        parked = self._rows().filter(not_before_ms=None)
        count: int = parked.update(created_ms=now, not_before_ms=now, tries=0, error="")
        return count


class _Claim:
    def __init__(self, queryset: Any, rows: Sequence[Row]) -> None:
        self._queryset, self.rows = queryset, rows

    def settle(self, sent: Sequence[UUID], kept: Sequence[Change]) -> None:
        """Delete rows and change others."""
        if sent:
            self._queryset.filter(pk__in=sent).delete()
        for one in kept:
            self._queryset.filter(pk=one.id).update(
                not_before_ms=one.not_before_ms, tries=one.tries, error=one.error
            )


def _row(found: Sequence[Any]) -> Row:
    named: dict[str, Any] = dict(zip(_NAMES, found, strict=True))
    named["payload"] = bytes(named["payload"])  # a memoryview with PostgreSQL
    return Row(**named)


outbox: DjangoOutbox = DjangoOutbox()
