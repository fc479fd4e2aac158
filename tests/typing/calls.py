"""Right and wrong calls of the public names, as type checkers see them. Never run.

Behind each wrong line stands `# error`: mypy and pyright must both find one there, and nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from tenacity import wait_exponential

from streamq import (
    Batch,
    Bound,
    Context,
    Depends,
    Expand,
    Failure,
    FlowHandle,
    FlowState,
    Item,
    Joined,
    Node,
    RateLimit,
    Retry,
    SignalAnswer,
    StreamQ,
    TaskHandle,
    Worker,
    WorkerOptions,
    get_context,
)

app = StreamQ("shop", shards=2, patience="5s", imports=["shop.mails"])


@app.task(max_attempts=4, timeout=30, backoff=wait_exponential(max=60), retry_on=(OSError, ValueError))
async def email(to: str, subject: str, *, body: str = "") -> int:
    assert_type(get_context(), Context)
    if not to:
        raise Retry(after=timedelta(minutes=5))
    return 1


@app.task
async def plain(to: str) -> None: ...


@app.task
def resize(px: int) -> str:
    return str(px)


@app.task(rate_limit="100/1m", durability="aof", executor="process")
def durable(at: datetime, tags: list[str] | None = None) -> None: ...


@app.task(name="later", rate_limit=RateLimit(5, "1m"))
def later() -> Awaitable[int]:
    raise NotImplementedError


@app.lifespan
async def pool(found: StreamQ) -> AsyncIterator[list[int]]:
    yield [found.registry.shards]


async def engine() -> AsyncIterator[int]:
    yield 1


def session(engine: int = Depends(engine), pool: list[int] = Depends(pool)) -> Iterator[str]:
    yield f"{engine} {pool}"


@app.task
async def injected(to: str, db: str = Depends(session), pool: list[int] = Depends(pool)) -> int:
    return len(db) + len(pool)


@app.task
async def mistyped(db: int = Depends(session)) -> None: ...  # error


async def right() -> None:
    assert_type(injected.enqueue("a"), TaskHandle[int])
    assert_type(pool.state, list[int])
    app.overrides[session] = lambda: "fake"
    assert_type(email.enqueue("a", "b", body="c"), TaskHandle[int])
    assert_type(await email.aenqueue("a", "b"), TaskHandle[int])
    assert_type(await email("a", "b"), int)
    assert_type(later.enqueue(), TaskHandle[int])
    assert_type(resize(5), str)
    assert_type(await asyncio.create_task(email("a", "b")), int)
    asyncio.run_coroutine_threadsafe(email("a", "b"), asyncio.get_running_loop())
    async with asyncio.TaskGroup() as group:
        group.create_task(email("a", "b"))
        group.create_task(email.aenqueue("a", "b"))
        group.create_task(plain("a"))
    assert_type(resize.options(delay="5m", priority="high").enqueue(1).result(timeout=5), str)
    assert_type(await (await email.aenqueue("a", "b")).aresult(), int)
    bound: list[Bound[Any]] = [email.bind("a", "b"), resize.bind(1)]
    app.enqueue_many(bound)
    sizes: list[Bound[str]] = [resize.bind(n) for n in range(3)]
    assert_type(app.enqueue_many(sizes), list[TaskHandle[str]])
    assert_type(await app.aenqueue_many(sizes), list[TaskHandle[str]])
    once = resize.options(idempotency_key="order-42", idempotency_window="2d", durability="replicas:1")
    assert_type(once.enqueue(1), TaskHandle[str])
    assert_type(once.enqueue(1).duplicate, bool)
    app.send("resize", {"px": 1}, shard_key="customer-7", durability="aof", at=datetime.now(UTC))
    durable.enqueue(datetime.now(UTC), ["a"])
    function: Callable[[int], str] = resize
    function(1)
    await Worker(app, WorkerOptions(concurrency=10, drain_timeout="1m")).run()


def fetch_page(url: str) -> str:
    return url


fetching = app.task(fetch_page)


@app.task
async def counted(page: str, least: int = 0) -> int:
    return len(page) + least


@app.task
async def summed(parts: list[int]) -> int:
    return sum(parts)


@app.task
async def added(parts: list[int]) -> str:
    return str(sum(parts))


@app.task
async def joining() -> Joined[str]:
    return Expand([counted.bind("a")]).then(added)


@app.task
async def urls() -> list[str]:
    return []


async def flows() -> None:
    wf = app.flow("import")
    page = wf.add(fetching.bind("https://example.org"), name="page", on_error="fail")
    assert_type(page, Node[str])
    assert_type(page.output, str)
    assert_type(page.outcome, str | Failure)
    number = wf.add(counted.bind(page.output), after=page)
    pages = wf.map(fetching, wf.add(urls.bind()))
    assert_type(pages, Node[list[str]])
    numbers = wf.map(counted, ["a", "b"], fixed={"least": 3})
    wf.add(summed.bind(numbers.output)).then(summed.bind([number.output, number.output]))
    assert_type(wf.start(key="import:17"), FlowHandle)
    assert_type(await (await wf.astart()).astatus(), FlowState)
    wf.add(summed.bind(number.output))  # error
    wf.add(counted.bind(number.output))  # error
    wf.add(counted.bind(page))  # error
    wf.add(counted.bind(page.outcome))  # error
    wf.map(counted, [1, 2])  # error
    wf.map(counted, page)  # error
    wf.add(counted)  # error
    wf.add(counted.bind("a"), after=3)  # error
    wf.add(counted.bind("a"), on_error="skip")  # error
    text: str = number.output  # error
    print(text)


async def wrong() -> None:
    injected.enqueue()  # error
    Depends(session, scope="request")  # error
    email.enqueue(1, "b")  # error
    email.enqueue("a")  # error
    email.enqueue("a", "b", nonsense=1)  # error
    email.options(delay=5).enqueue("a", 2)  # error
    await email.aenqueue("a")  # error
    resize.bind("x")  # error
    resize("x")  # error
    durable.enqueue("2026-01-01")  # error
    durable.enqueue(datetime.now(UTC), [1])  # error
    resize.options(dela=5)  # error
    resize.options(priority="urgent")  # error
    resize.options(durability="replica")  # error
    resize.options(idempotency_key=42)  # error
    resize.options(at="tomorrow")  # error
    app.send("resize", {}, shardkey="x")  # error
    app.task(durability="disk")  # error
    app.task(max_attempt=3)  # error
    app.task(retry_on="OSError")  # error
    app.enqueue_many([resize])  # error
    app.enqueue_many([1])  # error
    bytes_bound: Bound[bytes] = resize.bind(1)  # error
    number: int = resize.enqueue(1).result()  # error
    StreamQ(5)  # error
    StreamQ("shop", shard=2)  # error
    WorkerOptions(concurency=3)  # error
    print(bytes_bound, number)


async def fetched(url: str) -> bytes:
    return url.encode()


def parsed(page: bytes, *, strict: bool = False) -> list[int]:
    return [*page] if strict else []


@app.task
async def walked(left: int) -> int:
    return get_context().continue_as_new(walked.bind(left - 1)) if left else 0


@app.task
def walked_in_a_thread(left: int) -> str | None:
    ctx = get_context()
    assert_type(ctx.continue_as_new(walked_in_a_thread.bind(left - 1)), str | None)
    assert_type(ctx.generation, int)
    ctx.continue_as_new(walked_in_a_thread)  # error
    ctx.continue_as_new(walked_in_a_thread.bind("one"))  # error
    number: int = ctx.continue_as_new(walked_in_a_thread.bind(1))  # error
    return str(number)


async def steps() -> None:
    ctx = get_context()
    page = await ctx.step("fetch", fetched, "https://example.org")
    assert_type(page, bytes)
    assert_type(await ctx.step("parse", parsed, page, strict=True), list[int])
    assert_type(ctx.step_sync("parse again", parsed, page), list[int])
    await ctx.step("fetch", fetched, 3)  # error
    ctx.step_sync("parse", parsed, page, strict="yes", loose=1)  # error
    await ctx.sleep("1d")
    await ctx.sleep(timedelta(days=1))
    await ctx.sleep(None)  # error


@app.task(batch=Batch(100, linger="2s", by="to", max_bytes="8MB"))
async def mails(items: list[Item[str]]) -> list[int]:
    assert_type(items[0].value, str)
    items[0].fail("no such address")
    items[0].retry(after="5m")
    return [len(item.value) for item in items]


@app.task(batch=5)
def rows(items: list[Item[int]], db: str = Depends(session)) -> None: ...


async def batches() -> None:
    assert_type(mails.enqueue("ada").result(), int)
    assert_type(rows.enqueue(5), TaskHandle[None])
    mails.enqueue(5)  # error
    mails.enqueue(["ada"])  # error
    rows.bind("5")  # error


def follow_ups(context: Context) -> None:
    assert_type(context.enqueue(resize.bind(5)), TaskHandle[str])
    assert_type(context.enqueue_many([resize.bind(5)]), list[TaskHandle[str]])
    context.enqueue(resize)  # error
    context.enqueue(resize.bind("5"))  # error


async def signals(handle: TaskHandle[int], context: Context) -> None:
    assert_type(await context.wait("approved", datetime, timeout="7d"), datetime)
    assert_type(context.wait_sync("approved", str), str)
    assert_type(await handle.asignal("approved", {"by": "ada"}), SignalAnswer)
    handle.signal(5)  # error
    await context.wait("approved", timeout=[7])  # error


async def nested() -> None:
    wf = app.flow("inner")
    wf.add(urls.bind())
    ctx = get_context()
    await ctx.run_flow(wf, name="second")
    ctx.run_flow_sync(wf)
    number = wf.add(counted.bind("a"), on_error="continue")
    pages = wf.map(fetching, ["a"])
    assert_type(await ctx.run_flow(wf, returns=pages.output), list[str])
    assert_type(ctx.run_flow_sync(wf, "second", returns=number.outcome), int | Failure)
    assert_type(wf.start().result(5, returns=pages.output), list[str])
    assert_type(await (await wf.astart()).aresult(returns=number.output), int)
    await ctx.run_flow(wf, pages)  # error
    wf.start().result(node=pages)  # error
    await ctx.run_flow(urls)  # error
    await ctx.run_flow(wf.start())  # error


async def joined() -> None:
    some = Expand([counted.bind("a")])
    assert_type(some.then(added), Joined[str])
    assert_type(some.then(resize.bind(5)), Joined[str])
    some.then(counted)  # error
    node = app.flow("joined").add(joining.bind())
    assert_type(node.output, str)
