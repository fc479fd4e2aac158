"""The outbox for SQLAlchemy: a task exists if and only if the transaction is committed, and once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed: pip install 'streamq[sqlalchemy]'")

from sqlalchemy import Engine, MetaData, Table, create_engine, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from streamq import InvalidArguments, InvalidOption, Lane, StreamQ, Unique, UsageError
from streamq.cli import main
from streamq.outbox import Outbox, outbox_table
from streamq.outbox.row import new_id, now_ms
from tests.frameworks.outbox_program import STEPS
from tests.frameworks.postgres import Postgres, missing
from tests.running import until, wait_until

PROGRAM = Path(__file__).parent / "outbox_program.py"


@pytest.fixture(params=[pytest.param("sqlite", marks=() if missing() else pytest.mark.long), "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of each kind, for a sync engine."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/rows.sqlite3"
        return
    server: Postgres = request.getfixturevalue("postgres")
    found = "postgresql+psycopg" + server.url
    engine = create_engine(found)
    with engine.begin() as connection:
        connection.execute(text("drop table if exists streamq_outbox"))
    engine.dispose()
    yield found


def as_async(database: str) -> str:
    return database.replace("sqlite://", "sqlite+aiosqlite://").replace("+psycopg", "+asyncpg")


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    found = create_engine(database)
    yield found
    found.dispose()


class Shop:
    """An app with an outbox."""

    def __init__(self, app: StreamQ, engine: Engine | AsyncEngine, **options: Any) -> None:
        self.app, self.engine = app, engine
        metadata = MetaData()
        self.table: Table = outbox_table(metadata)
        self.metadata = metadata
        self.outbox = Outbox(app, self.table, engine, **options)
        self.email = app.task(name="email")(_email)
        self.full = app.task(name="full", max_backlog=1)(_email)
        self.one = app.task(name="one", unique=Unique(by=("to",)))(_email)
        self.throttled = app.task(name="throttled", unique=True, throttle="5s")(_email)
        self.laned = app.task(name="laned", lane=Lane("to", running=1))(_email)

    def session(self) -> Session:
        assert isinstance(self.engine, Engine)
        return Session(self.engine)

    def tasks(self) -> list[str]:
        """The ids of all tasks that wait."""
        states: list[Any] = ["ready", "scheduled", "parked"]
        return [row.id for state in states for row in self.app.inspector.tasks(state).rows]

    def rows(self) -> int:
        assert isinstance(self.engine, Engine)
        with self.engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(self.table)).scalar_one()


def _email(to: str) -> None: ...


@pytest.fixture
def shop(app: StreamQ, engine: Engine) -> Shop:
    found = Shop(app, engine, immediate=False)
    found.metadata.create_all(engine)
    return found


def test_a_task_exists_when_the_relay_has_sent_its_row(shop: Shop) -> None:
    with shop.session() as session:
        task = shop.outbox.add(session, shop.email.bind("ada@example.org"))
        assert shop.tasks() == []
        session.commit()
    assert (task.status(), shop.rows()) == ("unknown", 1)
    assert shop.outbox.relay_once() == 1
    assert (task.status(), shop.rows()) == ("ready", 0)
    assert shop.outbox.relay_once() == 0


def test_a_rolled_back_transaction_and_savepoint_leave_nothing(shop: Shop) -> None:
    with shop.session() as session:
        shop.outbox.add(session, shop.email.bind("kept"))
        session.flush()
        with session.begin_nested() as savepoint:
            shop.outbox.add(session, shop.email.bind("dropped"))
            savepoint.rollback()
        session.commit()
        shop.outbox.add(session, shop.email.bind("dropped too"))
        session.rollback()
    while shop.outbox.relay_once():
        pass
    [task] = shop.tasks()
    assert b"kept" in (shop.app.inspector.task(task).payload or b"")


def test_rows_are_sent_at_once_after_the_outermost_commit(app: StreamQ, engine: Engine) -> None:
    shop = Shop(app, engine)
    shop.metadata.create_all(engine)
    with Session(engine) as session:
        with session.begin_nested():
            first = shop.outbox.add(session, shop.email.bind("a"))
        with session.begin_nested() as savepoint:
            shop.outbox.add(session, shop.email.bind("dropped"))
            savepoint.rollback()
        assert shop.tasks() == []
        session.commit()
        assert first.status() == "ready"
        shop.outbox.add(session, shop.email.bind("dropped"))
        session.rollback()
        second = shop.outbox.add(session, shop.email.bind("b"))
        session.commit()
    assert second.status() == "ready"
    assert (len(shop.tasks()), shop.rows()) == (2, 0)


def test_an_unreachable_server_fails_no_commit(engine: Engine) -> None:
    app = StreamQ("shop", "redis://127.0.0.1:1", patience=0.05)
    shop = Shop(app, engine)
    shop.metadata.create_all(engine)
    for _ in range(2):
        with Session(engine) as session:
            shop.outbox.add(session, shop.email.bind("a"))
            session.commit()
    assert shop.rows() == 2
    stop = threading.Event()
    with pytest.raises(ConnectionError):
        shop.outbox.run(stop, once=True)
    assert shop.rows() == 2


def test_a_connection_can_be_used_instead_of_a_session(shop: Shop) -> None:
    assert isinstance(shop.engine, Engine)
    with shop.engine.begin() as connection:
        tasks = shop.outbox.add_many(connection, [shop.email.bind("a"), shop.email.bind("b")])
    shop.outbox.relay_once()
    assert [task.status() for task in tasks] == ["ready", "ready"]
    with pytest.raises(UsageError, match="session or the connection"):
        shop.outbox.add(shop.engine, shop.email.bind("a"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="sync engine"):
        asyncio.run(shop.outbox.arelay_once())


def test_options_of_a_call_are_kept(shop: Shop) -> None:
    with shop.session() as session:
        later = shop.outbox.add(session, shop.email.options(delay="1h").bind("a"))
        high = shop.outbox.add(session, shop.email.options(priority="high", expires="1h").bind("b"))
        keyed = shop.outbox.add(session, shop.email.options(idempotency_key="order-1").bind("c"))
        one = shop.outbox.add(session, shop.one.bind("d"))
        laned = shop.outbox.add(session, shop.laned.bind("e"))
        session.commit()
    while shop.outbox.relay_once():
        pass
    assert later.status() == "scheduled"
    assert [task.status() for task in (high, keyed, one, laned)] == ["ready"] * 4
    handle = high.handle()
    assert handle is not None
    assert handle.id.split(":")[2][0] == "h"
    assert shop.email.options(idempotency_key="order-1").enqueue("c").id in shop.tasks()
    assert shop.one.enqueue("d").id in shop.tasks()  # joined the one that holds the key
    assert len(shop.tasks()) == 5


def test_calls_that_cannot_be_kept_are_refused_where_they_are_made(shop: Shop) -> None:
    other = StreamQ("other", "redis://127.0.0.1:1")
    stranger = other.task(name="stranger")(_email)
    with shop.session() as session:
        with pytest.raises(InvalidArguments, match="belongs to app"):
            shop.outbox.add(session, stranger.bind("a"))
        with pytest.raises(InvalidOption, match="throttled"):
            shop.outbox.add(session, shop.throttled.bind("a"))
        with pytest.raises(InvalidArguments):
            shop.outbox.add(session, "email")  # type: ignore[arg-type]
        session.commit()
    assert shop.rows() == 0


def test_a_refused_row_waits_and_holds_nobody_up(shop: Shop) -> None:
    with shop.session() as session:
        shop.outbox.add_many(session, [shop.full.bind("a"), shop.full.bind("b"), shop.email.bind("c")])
        session.commit()
    shop.outbox.relay_once()
    assert len(shop.tasks()) == 2
    found = shop.outbox.status()
    assert (found.waiting, found.parked, found.tries) == (1, 0, 1)
    assert shop.outbox.relay_once() == 0  # it waits
    shop.app.handle(shop.app.inspector.tasks("ready", "full").rows[0].id).cancel()
    assert isinstance(shop.engine, Engine)
    with shop.engine.begin() as connection:
        connection.execute(update(shop.table).values(not_before_ms=0))
    assert shop.outbox.relay_once() == 1
    assert shop.rows() == 0


def test_damaged_old_and_conflicting_rows_are_parked_for_a_person(
    shop: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = now_ms()
    good: dict[str, Any] = {
        "app": "shop", "type": "email", "payload": b'{"to":"a"}', "options": '{"digest":"' + "00" * 16 + '"}',
        "created_ms": now, "not_before_ms": now, "tries": 0, "error": "",
    }  # fmt: skip
    bad: list[dict[str, Any]] = [
        {"options": "nonsense"}, {"options": "[]"}, {"options": "{}"}, {"type": "no name"}, {"type": ""},
        {"options": '{"digest":"zz"}'}, {"options": '{"digest":"00","route":[1,2,3,4,5,6,7]}'},
        {"options": '{"digest":"00","fields":[["a",5]]}'}, {"options": '{"digest":"00","due":["x",1]}'},
        {"created_ms": now - 10**9},
    ]  # fmt: skip
    assert isinstance(shop.engine, Engine)
    shop.email.options(idempotency_key="taken").enqueue("b")
    with shop.engine.begin() as connection:
        rows = [{"id": new_id(), **good, **one} for one in bad]
        connection.execute(insert(shop.table), [*rows, {"id": new_id(), **good}])
    with shop.session() as session:
        shop.outbox.add(session, shop.email.options(idempotency_key="taken").bind("c"))
        session.commit()
    while shop.outbox.relay_once():
        pass
    assert len(shop.tasks()) == 2  # the good one, and the holder of the key
    found = shop.outbox.status()
    assert (found.waiting, found.parked) == (0, len(bad) + 1)
    assert any("older than the window" in one for one in found.errors.values())
    monkeypatch.setattr("tests.frameworks.test_outbox.outbox", shop.outbox, raising=False)
    where = "tests.frameworks.test_outbox:outbox"
    assert main(["outbox", "status", where]) == 6
    assert f"parked   {len(bad) + 1}" in capsys.readouterr().out
    assert main(["outbox", "retry", where]) == 0
    assert main(["outbox", "relay", where, "--once"]) == 0
    assert len(shop.tasks()) == 3  # the old one was looked at, and sent
    assert main(["outbox", "status", where, "--json"]) == 6
    assert main(["outbox", "status", "tests.frameworks.test_outbox:PROGRAM"]) == 2


def test_two_relays_send_every_row_once(shop: Shop) -> None:
    shop.outbox.batch = 20
    with shop.session() as session:
        shop.outbox.add_many(session, [shop.email.bind(str(n)) for n in range(200)])
        session.commit()
    done: list[int] = []

    def relay() -> None:
        done.append(shop.outbox.run(threading.Event(), interval=0.01, once=True))

    threads = [threading.Thread(target=relay) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    while shop.outbox.relay_once():
        pass
    assert (shop.app.inspector.type_stats("email").counters["accepted"], shop.rows()) == (200, 0)


# -- async ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def opened(app: StreamQ, database: str, **options: Any) -> AsyncIterator[Shop]:
    engine = create_async_engine(as_async(database))
    shop = Shop(app, engine, **options)
    async with engine.begin() as connection:
        await connection.run_sync(shop.metadata.create_all)
    yield shop
    await shop.outbox.drain()
    await engine.dispose()


async def test_async_sessions_and_connections(app: StreamQ, database: str) -> None:
    async with opened(app, database, immediate=False) as shop:
        assert isinstance(shop.engine, AsyncEngine)
        async with AsyncSession(shop.engine) as session:
            first = shop.outbox.add(session, shop.email.bind("a"))
            await session.commit()
            shop.outbox.add(session, shop.email.bind("dropped"))
            await session.rollback()
        async with shop.engine.begin() as connection:
            [second] = await shop.outbox.aadd(connection, shop.email.bind("b"))
        assert (await shop.outbox.astatus()).waiting == 2
        assert await first.astatus() == "unknown"
        assert await shop.outbox.arun(asyncio.Event(), once=True) == 2
        assert [await task.astatus() for task in (first, second)] == ["ready", "ready"]
        assert await shop.outbox.aretry() == 0
        with pytest.raises(UsageError, match="await"):
            shop.outbox.relay_once()


async def test_async_rows_are_sent_at_once_after_the_commit(app: StreamQ, database: str) -> None:
    async with opened(app, database) as shop:
        assert isinstance(shop.engine, AsyncEngine)
        async with AsyncSession(shop.engine) as session:
            task = shop.outbox.add(session, shop.email.bind("a"))
            await session.commit()
        await shop.outbox.drain()
        assert await task.astatus() == "ready"
        assert (await shop.outbox.astatus()).waiting == 0


async def test_a_relay_that_runs_goes_on_after_errors_and_stops(app: StreamQ, database: str) -> None:
    async with opened(app, database, immediate=False) as shop:
        assert isinstance(shop.engine, AsyncEngine)
        stop, broken = asyncio.Event(), [True]
        send = app.aenqueue_many

        async def sometimes(calls: Any) -> Any:
            if broken and broken.pop():
                raise ConnectionError("once")
            return await send(calls)

        app.aenqueue_many = sometimes  # type: ignore[assignment,method-assign]
        relay = asyncio.create_task(shop.outbox.arun(stop, interval=0.02))
        async with AsyncSession(shop.engine) as session:
            task = shop.outbox.add(session, shop.email.bind("a"))
            await session.commit()
        await until(lambda: task.status() == "ready")
        stop.set()
        assert await relay >= 1


# -- kills ---------------------------------------------------------------------------------------------------


def program(database: str, url: str, step: str, immediate: str = "later") -> int:
    command = [sys.executable, str(PROGRAM), database, url, step, immediate]
    root = str(PROGRAM.parents[2])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={"PYTHONPATH": root}
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_loses_no_task_and_makes_none_twice(
    app: StreamQ, database: str, url: str, step: str
) -> None:
    # In PostgreSQL the same steps are taken by the process that commits, right after it has.
    immediate = "later" if database.startswith("sqlite") else "immediate"
    assert program(database, url, step, immediate) == -signal.SIGKILL
    assert program(database, url, "relay") == 0
    wanted = 0 if step == "after-insert" else 5  # the user's transaction was not committed
    stats = app.inspector.type_stats("email") if "email" in app.inspector.types() else None
    assert (0 if stats is None else stats.counters["accepted"]) == wanted
    engine = create_engine(database)
    with engine.connect() as connection:
        assert connection.execute(text("select count(*) from streamq_outbox")).scalar_one() == 0
    engine.dispose()


def test_ids_grow_with_time() -> None:
    found = [new_id() for _ in range(3)]
    assert [one.version for one in found] == [7] * 3
    assert [one.bytes[:6] for one in found] == sorted(one.bytes[:6] for one in found)


def test_a_relay_ends_with_what_it_has_sent(
    shop: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.frameworks.test_outbox.outbox", shop.outbox, raising=False)
    with shop.session() as session:
        shop.outbox.add(session, shop.email.bind("a"))
        session.commit()

    def end() -> None:
        wait_until(lambda: len(shop.tasks()) == 1)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(end)
        assert main(["outbox", "relay", "tests.frameworks.test_outbox:outbox"]) == 0
        ended.result()
    assert "1 rows were sent or put off\n" in capsys.readouterr().err
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
