"""Dependencies of handlers through a real worker, and what is refused when a handler is registered."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from tenacity import wait_fixed

from streamq import Context, Depends, InvalidArguments, InvalidDependency, StreamQ, TaskDead, UsageError
from streamq.testing import Queue, recording
from tests.running import clean, serving, until, working

if TYPE_CHECKING:
    from collections.abc import Hashable as Session  # known to type checkers only

fastapi: Any = pytest.importorskip("fastapi")
taskiq: Any = pytest.importorskip("taskiq_dependencies")


async def test_values_are_made_in_order_shared_and_unwound_in_reverse_before_settle(url: str) -> None:
    app, seen = StreamQ("shop", url), list[str]()

    async def engine() -> AsyncIterator[str]:
        seen.append("engine")
        yield "engine"
        seen.append("engine ends")

    def session(engine: str = Depends(engine)) -> Iterator[str]:
        seen.append(f"session on {engine}")
        yield "session"
        seen.append("session ends")

    class Mail:
        def __init__(self, session: str = Depends(session)) -> None:
            self.session = session

    async def user(context: Context, mail: Mail = Depends(Mail)) -> str:
        return f"{context.type} by {mail.session}"

    @app.task
    async def work(n: int, db: str = Depends(session), who: str = Depends(user)) -> str:
        seen.append("handler")
        return f"{n} {db} {who}"

    async with working(app):
        assert await (await work.aenqueue(1)).aresult(10) == "1 session work by session"
    assert seen == ["engine", "session on engine", "handler", "session ends", "engine ends"]
    clean(app)


async def test_sync_ones_are_made_in_the_thread_of_a_def_handler_async_ones_on_the_loop(url: str) -> None:
    app, loop = StreamQ("shop", url), threading.get_ident()
    at: dict[str, int] = {}

    def of_async() -> str:
        at["of_async"] = threading.get_ident()
        return "a"

    async def on_loop(needed: str = Depends(of_async)) -> AsyncIterator[str]:
        at["on_loop"] = threading.get_ident()
        yield f"{needed} on loop"
        at["on_loop ends"] = threading.get_ident()

    def session(outer: str = Depends(on_loop)) -> Iterator[str]:
        at["session"] = threading.get_ident()
        yield f"{outer} in thread"
        at["session ends"] = threading.get_ident()

    @app.task
    def work(db: str = Depends(session)) -> str:
        at["handler"] = threading.get_ident()
        return db

    @app.task
    async def looping(db: str = Depends(session)) -> str:
        return db

    async with working(app):
        assert await (await work.aenqueue()).aresult(10) == "a on loop in thread"
        assert at["of_async"] == at["on_loop"] == at["on_loop ends"] == loop
        assert at["session"] == at["session ends"] == at["handler"] != loop
        assert await (await looping.aenqueue()).aresult(10) == "a on loop in thread"
        assert at["session"] == at["session ends"] == loop


async def test_one_of_the_process_is_made_once_at_the_start_and_ends_with_the_worker(url: str) -> None:
    app, seen = StreamQ("shop", url), list[str]()

    @app.lifespan
    async def settings(app: StreamQ) -> AsyncIterator[str]:
        seen.append("lifespan")
        yield "dsn"
        seen.append("lifespan ends")

    async def pool(dsn: str = Depends(settings)) -> AsyncIterator[str]:
        seen.append(f"pool {dsn}")
        yield "pool"
        seen.append("pool ends")

    def session(pool: str = Depends(pool, scope="process")) -> str:
        return f"session of {pool}"

    @app.task
    async def work(db: str = Depends(session)) -> str:
        return db

    async with working(app):
        assert seen == ["lifespan", "pool dsn"]
        for _ in range(2):
            assert await (await work.aenqueue()).aresult(10) == "session of pool"
    assert seen == ["lifespan", "pool dsn", "pool ends", "lifespan ends"]


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_a_failure_is_seen_by_what_is_open_and_its_end_may_fail_the_attempt(
    url: str, kind: str
) -> None:
    app, seen = StreamQ("shop", url), list[str]()
    attempts: list[int] = []

    def session(context: Context) -> Iterator[str]:
        attempts.append(context.attempt)
        try:
            yield "session"
        except ValueError as error:
            seen.append(f"rollback after {error}")
            if context.attempt == 2:  # hides it, which must not pass for a success
                return
            raise
        if context.attempt == 3:
            raise ConnectionError("commit failed")

    def run(db: str) -> str:
        if attempts[-1] < 3:
            raise ValueError("mine")
        return db

    if kind == "async":

        @app.task(max_attempts=4, backoff=wait_fixed(0))
        async def work(db: str = Depends(session)) -> str:
            return run(db)
    else:

        @app.task(max_attempts=4, backoff=wait_fixed(0))
        def work(db: str = Depends(session)) -> str:
            return run(db)

    async with serving(app):
        handle = await work.aenqueue()
        assert await handle.aresult(20) == "session"
    assert attempts == [1, 2, 3, 4]
    assert seen == ["rollback after mine"] * 2
    clean(app)


async def test_a_timeout_is_seen_by_what_is_open_before_settle(url: str) -> None:
    app, seen = StreamQ("shop", url), list[str]()

    async def session() -> AsyncIterator[str]:
        try:
            yield "session"
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            seen.append("rollback")
            raise

    @app.task(max_attempts=1, timeout=0.1)
    async def work(db: str = Depends(session)) -> None:
        await asyncio.sleep(60)

    async with working(app):
        with pytest.raises(TaskDead, match="AttemptTimeout"):
            await (await work.aenqueue()).aresult(10)
        assert seen == ["rollback"]


async def test_what_was_made_before_one_that_fails_ends_too(url: str) -> None:
    app, seen = StreamQ("shop", url), list[str]()

    @contextmanager
    def first() -> Iterator[int]:
        yield 1
        seen.append("not on a failure")

    @asynccontextmanager
    async def second() -> AsyncIterator[int]:
        try:
            yield 2
        finally:
            seen.append("second ends")

    def third() -> int:
        raise LookupError("third")

    @app.task(max_attempts=1)
    async def work(a: int = Depends(first), b: int = Depends(second), c: int = Depends(third)) -> None: ...

    @app.task(max_attempts=1)
    def plain(a: int = Depends(first), b: int = Depends(second), c: int = Depends(third)) -> None: ...

    async with working(app):
        for task in (work, plain):
            with pytest.raises(TaskDead, match="LookupError: third"):
                await (await task.aenqueue()).aresult(10)
    assert seen == ["second ends"] * 2


async def test_cached_is_once_an_attempt_and_uncached_once_a_use(url: str) -> None:
    app, made = StreamQ("shop", url), list[int]()

    def number() -> int:
        made.append(len(made))
        return made[-1]

    def pair(one: int = Depends(number), other: int = Depends(number, use_cache=False)) -> list[int]:
        return [one, other]

    @app.task
    async def work(a: int = Depends(number), b: list[int] = Depends(pair)) -> list[Any]:
        return [a, b]

    async with working(app):
        assert await (await work.aenqueue()).aresult(10) == [0, [0, 1]]
        assert await (await work.aenqueue()).aresult(10) == [2, [2, 3]]


# -- the call ------------------------------------------------------------------------------------------------


def test_a_dependency_is_no_argument_anywhere(url: str) -> None:
    app = StreamQ("shop", url)

    def session() -> str:
        return "session"

    @app.task
    def work(n: int, *, word: str = "a", db: Session = Depends(session)) -> list[object]:
        return [n, word, db]

    assert str(work.handler.signature) == "(n: 'int', *, word: 'str' = 'a') -> 'list[object]'"
    assert app.inspector.task(work.enqueue(1, word="b").id).payload == b'{"n":1,"word":"b"}'
    assert app.inspector.task(app.send("work", {"n": 1}).id).payload == b'{"n":1}'
    with pytest.raises(InvalidArguments, match="db"):
        work.enqueue(1, db="mine")
    with pytest.raises(InvalidArguments, match="db unknown"):
        app.send("work", {"n": 1, "db": "mine"})
    with recording(app) as sent:
        work.enqueue(2)
        sent.assert_one(work, n=2)
    with pytest.raises(UsageError, match=r"nothing provides db: pass it, such as work\(\.\.\., db=\.\.\.\)"):
        work(1)
    assert work(1, db="mine") == [1, "a", "mine"]


def test_overrides_replace_dependencies_wherever_they_are_needed(url: str) -> None:
    app = StreamQ("shop", url)

    async def pool() -> str:
        raise AssertionError("tests have no database")

    def session(pool: str = Depends(pool, scope="process")) -> str:
        return f"session of {pool}"

    @app.task
    def work(db: str = Depends(session)) -> str:
        return db

    @app.task
    def other(db: str = Depends(session)) -> str:
        return db

    with Queue(app) as queue:
        app.overrides[pool] = lambda: "fake"
        work.enqueue()
        assert [task.result for task in queue.run()] == ["session of fake"]
        app.overrides[session] = lambda: "other fake"
        work.enqueue()
        other.enqueue()
        assert [task.result for task in queue.run()] == ["other fake", "other fake"]
        del app.overrides[session]
        work.enqueue()
        assert [task.result for task in queue.run()] == ["session of fake"]
        app.overrides.clear()
        assert list(app.overrides) == []
    for wrong in ((session, 7), (7, session)):
        with pytest.raises(InvalidDependency, match="is not a dependency"):
            app.overrides[wrong[0]] = wrong[1]  # type: ignore[index, assignment]


def test_an_override_that_needs_a_request_fails_the_attempt_and_says_so(url: str) -> None:
    app = StreamQ("shop", url)

    def session() -> str:
        return "session"

    @app.task(max_attempts=1)
    async def work(db: str = Depends(session)) -> str:
        return db

    with Queue(app) as queue:
        app.overrides[session] = deeper
        work.enqueue()
        with pytest.raises(InvalidDependency, match="deeper -> with_request: parameter 'request' needs a Re"):
            queue.run()
        app.overrides.clear()
        work.enqueue()
        assert [task.result for task in queue.run()] == ["session"]


async def test_an_override_while_a_worker_runs_is_opened_by_the_next_attempt(url: str) -> None:
    app = StreamQ("shop", url)

    def pool() -> str:
        return "pool"

    @app.task
    async def work(db: str = Depends(pool, scope="process")) -> str:
        return db

    async with working(app):
        assert await (await work.aenqueue()).aresult(10) == "pool"
        app.overrides[pool] = lambda: "fake"
        assert await (await work.aenqueue()).aresult(10) == "fake"


# -- markers of others ---------------------------------------------------------------------------------------


async def the_session() -> AsyncIterator[str]:
    yield "session"


SessionDep = Annotated[str, fastapi.Depends(the_session)]


class Service:
    def __init__(self, db: Annotated[str, fastapi.Depends(the_session)]) -> None:
        self.db = db


def of_taskiq(db: str = taskiq.Depends(the_session)) -> str:
    return f"taskiq with {db}"


async def test_markers_of_fastapi_and_taskiq_are_read(url: str) -> None:
    app = StreamQ("shop", url)

    @app.task
    async def work(
        n: int, *, db: SessionDep, service: Annotated[Service, fastapi.Depends()],
        more: str = fastapi.Depends(of_taskiq),
    ) -> list[Any]:  # fmt: skip
        return [n, db, service.db, more]

    async with working(app):
        handle = await app.asend("work", {"n": 1})
        assert await handle.aresult(10) == [1, "session", "session", "taskiq with session"]


def test_the_same_dependency_serves_fastapi_and_a_worker(url: str) -> None:
    testclient = pytest.importorskip("starlette.testclient")
    app, web = StreamQ("shop", url), fastapi.FastAPI()

    def session() -> Iterator[str]:
        yield "session"

    @app.task
    def work(db: str = Depends(session)) -> str:
        return db

    @web.get("/")  # type: ignore[untyped-decorator]
    def view(db: str = fastapi.Depends(session)) -> str:
        return f"{db} {work.enqueue().id.partition(':')[0]}"

    with Queue(app) as queue:
        assert testclient.TestClient(web).get("/").json() == "session work"
        assert [task.result for task in queue.run()] == ["session"]


def with_request(request: fastapi.Request) -> None: ...
def with_header(token: str = fastapi.Header()) -> None: ...
def with_annotated(token: Annotated[str, fastapi.Query()]) -> None: ...
def with_optional(token: str = fastapi.Cookie("none")) -> None: ...
def with_nothing(token: str) -> None: ...
def with_socket(socket: fastapi.WebSocket) -> None: ...
def with_response(response: fastapi.Response) -> None: ...


class WithRequest:
    def __init__(self, request: fastapi.Request) -> None: ...


class CallsWithRequest:
    def __call__(self, request: fastapi.Request) -> None: ...


def deeper(user: str = fastapi.Depends(with_request)) -> None: ...
def deepest(user: str = taskiq.Depends(deeper)) -> None: ...
def positional(one: None = Depends(with_nothing), /) -> None: ...
def reads_context(context: Context) -> None: ...
def secured(x: str = fastapi.Security(lambda: 1, scopes=["a"])) -> None: ...
def circle(one: int = Depends(lambda: 1)) -> None: ...
def of_attempt(one: int = Depends(lambda: 1, scope="attempt")) -> None: ...


circle.__defaults__ = (Depends(circle),)


@pytest.mark.parametrize(
    ("dependency", "scope", "told"),
    [
        (with_request, None, "with_request: parameter 'request' needs a Request: a worker has no request"),
        (with_header, None, r"parameter 'token' is read from a request \(Header\)"),
        (with_annotated, None, r"parameter 'token' is read from a request \(Query\)"),
        (with_optional, None, r"parameter 'token' is read from a request \(Cookie\)"),
        (with_nothing, None, "parameter 'token' has no value: give it a default"),
        (deeper, None, "deeper -> with_request: parameter 'request' needs a Request"),
        (deepest, None, "deepest -> deeper -> with_request: parameter 'request' needs a Request"),
        (deeper, "process", "deeper -> with_request: parameter 'request' needs a Request"),
        (functools.partial(with_request), None, "with_request: parameter 'request' needs a Request"),
        (WithRequest, None, "WithRequest: parameter 'request' needs a Request"),
        (CallsWithRequest(), None, "CallsWithRequest: parameter 'request' needs a Request"),
        (with_socket, None, "parameter 'socket' needs a WebSocket"),
        (with_response, None, "parameter 'response' needs a Response"),
        (positional, None, "parameter 'one' is given by name"),
        (secured, None, "scopes of fastapi.params has no meaning in a worker"),
        (circle, None, "need each other in a circle: circle -> circle"),
        (of_attempt, "process", "a dependency of scope 'process' cannot need one of scope 'attempt'"),
        (reads_context, "process", "a dependency of scope 'process' cannot take a Context"),
    ],
)
def test_what_a_worker_cannot_give_is_refused_at_decoration(dependency: Any, scope: Any, told: str) -> None:
    app = StreamQ("shop")
    with pytest.raises(InvalidDependency, match=told):

        @app.task
        def work(db: str = Depends(dependency, scope=scope)) -> None: ...

    assert app.registry.handlers == {}


def wrong_handlers() -> list[tuple[Callable[..., None], str]]:
    def before(db: int = Depends(int), n: int = 0) -> None: ...
    def positional(db: int = Depends(int), /) -> None: ...
    def listed(db: int = Depends(int), *more: int) -> None: ...
    def nothing(db: "unknown" = taskiq.Depends()) -> None: ...  # type: ignore[name-defined]  # noqa: B008, F821, UP037

    return [
        (before, "parameter 'n' follows the dependency 'db': put dependencies last"),
        (positional, "'db' is given by name"), (listed, "'db' is given by name"),
        (nothing, "needs a class as annotation"),
    ]  # fmt: skip


@pytest.mark.parametrize(("function", "told"), wrong_handlers())
def test_a_dependency_must_not_move_the_arguments_of_a_call(function: Callable[..., None], told: str) -> None:
    with pytest.raises(InvalidDependency, match=told):
        StreamQ("shop").task(function)


def test_wrong_markers_are_refused() -> None:
    untyped: Any = Depends
    with pytest.raises(InvalidDependency, match="must be a function"):
        untyped(7)
    with pytest.raises(InvalidDependency, match="must be one of attempt, process"):
        untyped(int, scope="request")
    with pytest.raises(InvalidDependency, match="one value a process"):
        Depends(int, scope="process", use_cache=False)
    assert repr(Depends(with_nothing)) == "Depends(with_nothing)"


async def test_partials_objects_and_classes_are_dependencies(url: str) -> None:
    app = StreamQ("shop", url)

    def named(name: str, suffix: str = "!") -> str:
        return name + suffix

    class Checks:
        async def __call__(self) -> str:
            return "checked"

    checks: Any = Checks()

    @app.task
    async def work(
        a: str = Depends(functools.partial(named, "a")), b: str = Depends(checks), c: int = Depends(int)
    ) -> list[Any]:
        return [a, b, c]

    async with working(app):
        assert await (await work.aenqueue()).aresult(10) == ["a!", "checked", 0]


async def test_hooks_are_outside_and_many_attempts_do_not_share(url: str) -> None:
    app, open_now, most = StreamQ("shop", url), set[int](), list[int]()

    async def session(context: Context) -> AsyncIterator[int]:
        assert context.id
        number = len(most)
        open_now.add(number)
        most.append(len(open_now))
        await asyncio.sleep(0)
        yield number
        open_now.discard(number)

    @app.task
    async def work(db: int = Depends(session)) -> int:
        await asyncio.sleep(0)
        return db

    async with working(app):
        handles = await app.aenqueue_many([work.bind() for _ in range(200)])
        assert sorted([await handle.aresult(20) for handle in handles]) == list(range(200))
        await until(lambda: not open_now)
    assert max(most) > 1
    assert inspect.signature(work) == inspect.signature(work.handler.function)
    clean(app)
