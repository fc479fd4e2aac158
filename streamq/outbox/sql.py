"""The outbox for SQLAlchemy 2, sync and async.

Owns the rows of a session, the claim of the relay, and the sending after a commit. Takes the user's session
or connection and never opens a transaction for a row: it belongs to the user's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, fields
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Engine, Table, delete, event, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction, registry

from streamq.app.app import StreamQ
from streamq.app.bound_task import Bound
from streamq.app.keyed_task import KeyedTask
from streamq.errors import UsageError
from streamq.options.checks import Duration
from streamq.outbox.relay import Change, OutboxStatus, Relay
from streamq.outbox.row import Row, key_of, now_ms, rows_of

_ERRORS: Final = 10


class Outbox(Relay):
    """An outbox in a table that `outbox_table(metadata)` has made. engine: for the relay, and for sending
    after a commit; the rows are written with the user's own session."""

    def __init__(
        self,
        app: StreamQ,
        table: Table,
        engine: Engine | AsyncEngine,
        *,
        window: Duration = "24h",
        batch: int = 500,
        immediate: bool = True,
    ) -> None:
        super().__init__(window=window, batch=batch, immediate=immediate)
        self._app = app
        self.table: Table = table
        self.engine: Engine | AsyncEngine = engine
        self.is_async: bool = isinstance(engine, AsyncEngine)
        self._row: type[Any] = type("OutboxRow", (), {})
        registry().map_imperatively(self._row, table)
        self._pending = f"streamq-outbox-{id(self)}"
        self._sending: set[asyncio.Task[None]] = set()

    @property
    def app(self) -> StreamQ:
        """The app that the tasks are sent with."""
        return self._app

    # -- writing -----------------------------------------------------------------------------------------

    def add(self, session: Session | AsyncSession | Connection, call: Bound[object]) -> KeyedTask:
        """Add a call to the transaction of a session or a connection; return its task, which exists after the
        commit. Sends nothing now, and is the same for an AsyncSession. Raises InvalidOption and
        UsageError."""
        return self.add_many(session, [call])[0]

    def add_many(
        self, session: Session | AsyncSession | Connection, calls: Iterable[Bound[object]]
    ) -> list[KeyedTask]:
        """Add calls, as `add` does; return their tasks in order."""
        rows = rows_of(self._app, calls)
        if isinstance(session, Connection):
            if rows:
                session.execute(insert(self.table), [asdict(row) for row in rows])
            return self._tasks(rows)
        plain = session.sync_session if isinstance(session, AsyncSession) else session
        if not isinstance(plain, Session):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(
                "outbox.add takes the session or the connection of your transaction, not "
                f"{type(session).__name__}"
            )
        for row in rows:
            found = self._row()
            for name, value in asdict(row).items():
                setattr(found, name, value)
            plain.add(found)
        self._watch(plain, [row.id for row in rows])
        return self._tasks(rows)

    async def aadd(self, connection: AsyncConnection, *calls: Bound[object]) -> list[KeyedTask]:
        """Add calls to the transaction of an AsyncConnection; return their tasks in order."""
        rows = rows_of(self._app, calls)
        if rows:
            await connection.execute(insert(self.table), [asdict(row) for row in rows])
        return self._tasks(rows)

    def _tasks(self, rows: Sequence[Row]) -> list[KeyedTask]:
        import orjson  # noqa: PLC0415 - the only use of it here

        found: list[KeyedTask] = []
        for row in rows:
            own = orjson.loads(row.options).get("key")
            found.append(self._app.find(row.type, key=own[0] if own else key_of(row.id)))
        return found

    # -- after the commit --------------------------------------------------------------------------------

    def _watch(self, session: Session, ids: list[UUID]) -> None:
        if not self.immediate:
            return
        session.info.setdefault(self._pending, []).extend(ids)
        if not event.contains(session, "after_transaction_end", self._ended):
            event.listen(session, "after_transaction_end", self._ended)

    def _ended(self, session: Session, transaction: SessionTransaction) -> None:
        """Send the rows of an outermost transaction. After a rollback they do not exist, nor do those of a
        savepoint that was rolled back: the table says what is there."""
        if transaction.parent is not None:
            return
        ids: list[UUID] | None = session.info.pop(self._pending, None)
        if not ids:
            return
        if not self.is_async:
            self.send_now(ids)
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # the relay sends them
        task = loop.create_task(self.asend_now(ids))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def drain(self) -> None:
        """Wait for the rows that this event loop is sending, before it ends."""
        while self._sending:
            await asyncio.gather(*self._sending, return_exceptions=True)

    # -- the relay -----------------------------------------------------------------------------------------

    @contextmanager
    def claimed(self, ids: Sequence[UUID] | None = None) -> Generator[_Claim]:
        """Lock rows in a transaction of the outbox's own. Raises UsageError for an async engine."""
        if isinstance(self.engine, AsyncEngine):
            raise UsageError("this outbox has an async engine: write await outbox.arelay_once()")
        with self.engine.begin() as connection:
            yield _Claim(self, connection, _rows(connection.execute(self._due(ids)).all()))

    @asynccontextmanager
    async def aclaimed(self, ids: Sequence[UUID] | None = None) -> AsyncGenerator[_AsyncClaim]:
        """Lock rows, as `claimed` does. Raises UsageError for a sync engine."""
        if not isinstance(self.engine, AsyncEngine):
            raise UsageError("this outbox has a sync engine: write outbox.relay_once()")
        async with self.engine.begin() as connection:
            yield _AsyncClaim(self, connection, _rows((await connection.execute(self._due(ids))).all()))

    def _due(self, ids: Sequence[UUID] | None) -> Any:
        columns = self.table.c
        found = select(*(columns[one.name] for one in fields(Row))).where(
            columns.app == self._app.name, columns.not_before_ms <= now_ms()
        )
        if ids is not None:
            found = found.where(columns.id.in_(ids))
        return found.order_by(columns.id).limit(self.batch).with_for_update(skip_locked=True)

    def writes(self, sent: Sequence[UUID], kept: Sequence[Change]) -> list[Any]:
        """Return the statements that settle a claim."""
        columns = self.table.c
        found: list[Any] = [delete(self.table).where(columns.id.in_(sent))] if sent else []
        return found + [
            update(self.table)
            .where(columns.id == one.id)
            .values(not_before_ms=one.not_before_ms, tries=one.tries, error=one.error)
            for one in kept
        ]

    # -- looking ---------------------------------------------------------------------------------------------

    def status(self) -> OutboxStatus:
        """Return what is in the outbox."""
        if isinstance(self.engine, AsyncEngine):
            raise UsageError("this outbox has an async engine: write await outbox.astatus()")
        with self.engine.connect() as connection:
            return self._status(connection)

    async def astatus(self) -> OutboxStatus:
        """As `status`, for an async engine."""
        async with self._asynced().connect() as connection:
            return await connection.run_sync(self._status)

    def retry(self) -> int:
        """Let parked rows be sent again, as if they were new; return how many."""
        if isinstance(self.engine, AsyncEngine):
            raise UsageError("this outbox has an async engine: write await outbox.aretry()")
        with self.engine.begin() as connection:
            return self._retry(connection)

    async def aretry(self) -> int:
        """As `retry`, for an async engine."""
        async with self._asynced().begin() as connection:
            return await connection.run_sync(self._retry)

    def _asynced(self) -> AsyncEngine:
        if not isinstance(self.engine, AsyncEngine):
            raise UsageError("this outbox has a sync engine: leave out the `a` and the await")
        return self.engine

    def _status(self, connection: Connection) -> OutboxStatus:
        columns = self.table.c
        ours = columns.app == self._app.name
        waiting = select(func.count(), func.min(columns.created_ms), func.max(columns.tries)).where(
            ours, columns.not_before_ms.is_not(None)
        )
        count, oldest, tries = connection.execute(waiting).one()
        parked = ours, columns.not_before_ms.is_(None)
        stopped = connection.execute(select(func.count()).select_from(self.table).where(*parked)).scalar_one()
        errors = connection.execute(select(columns.id, columns.error).where(*parked).limit(_ERRORS)).all()
        age = max(0.0, (now_ms() - oldest) / 1000) if oldest else 0.0
        return OutboxStatus(count, stopped, age, tries or 0, {str(one): text for one, text in errors})

    def _retry(self, connection: Connection) -> int:
        columns, now = self.table.c, now_ms()
        stopped = columns.app == self._app.name, columns.not_before_ms.is_(None)
        renewed = (
            update(self.table).where(*stopped).values(created_ms=now, not_before_ms=now, tries=0, error="")
        )
        return connection.execute(renewed).rowcount


class _Claim:
    def __init__(self, outbox: Outbox, connection: Connection, rows: Sequence[Row]) -> None:
        self._outbox, self._connection, self.rows = outbox, connection, rows

    def settle(self, sent: Sequence[UUID], kept: Sequence[Change]) -> None:
        """Delete rows and change others."""
        for statement in self._outbox.writes(sent, kept):
            self._connection.execute(statement)


class _AsyncClaim:
    def __init__(self, outbox: Outbox, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        self._outbox, self._connection, self.rows = outbox, connection, rows

    async def settle(self, sent: Sequence[UUID], kept: Sequence[Change]) -> None:
        """Delete rows and change others."""
        for statement in self._outbox.writes(sent, kept):
            await self._connection.execute(statement)


def _rows(found: Iterable[Any]) -> list[Row]:
    return [Row(*one) for one in found]
