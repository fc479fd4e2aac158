"""A task by its idempotency key, which may not exist yet."""

from __future__ import annotations

import asyncio
import threading

import pytest

from streamq import InvalidOption, ResultTimeout, StreamQ, UsageError
from tests.running import until, working


@pytest.mark.parametrize("shards", [1, 4])
async def test_a_task_is_found_by_its_key_once_it_exists(url: str, shards: int) -> None:
    app, other = StreamQ("shop", url, shards=shards), StreamQ("shop", url, shards=shards)

    @app.task
    async def work(n: int) -> int:
        return n

    found = [other.find("work", key=f"order:{n}") for n in range(8)]
    assert [one.status() for one in found] == ["unknown"] * 8
    assert [await one.astatus() for one in found] == ["unknown"] * 8
    assert found[0].handle() is None
    assert (found[0].cancel(), await found[0].acancel()) == ("unknown", "unknown")
    with pytest.raises(ResultTimeout, match="no task 'work' has the idempotency key 'order:0' yet"):
        found[0].result(timeout=0.05)
    waiting = [asyncio.create_task(one.aresult(timeout=20)) for one in found]
    handles = [work.options(idempotency_key=f"order:{n}").enqueue(n) for n in range(8)]
    assert [one.handle() for one in found] == [other.handle(handle.id) for handle in handles]
    assert {one.status() for one in found} == {"ready"}
    async with working(app):
        assert await asyncio.gather(*waiting) == list(range(8))
    assert found[3].result(timeout=5) == 3
    assert [await one.astatus() for one in found] == ["completed"] * 8


async def test_a_plain_call_waits_until_the_task_exists(url: str) -> None:
    app, results = StreamQ("shop", url), list[object]()

    @app.task
    async def work() -> str:
        return "done"

    found = app.find("work", key="later")
    thread = threading.Thread(target=lambda: results.append(found.result(timeout=20)))
    thread.start()
    async with working(app):
        await work.options(idempotency_key="later").aenqueue()
        await until(lambda: results == ["done"])
    thread.join(10)


async def test_a_task_that_waits_can_be_cancelled_by_its_key(url: str) -> None:
    app = StreamQ("shop", url)

    @app.task
    async def work() -> None: ...

    work.options(idempotency_key="a", delay="1h").enqueue()
    assert await app.find("work", key="a").acancel() == "cancelled"
    assert app.find("work", key="a").status() == "cancelled"


def test_a_key_of_another_type_and_wrong_names_are_refused(url: str) -> None:
    app = StreamQ("shop", url)

    @app.task
    def work() -> None: ...

    handle = work.options(idempotency_key="a").enqueue()
    with pytest.raises(UsageError, match=f"belongs to task {handle.id}, whose type is not 'mail'"):
        app.find("mail", key="a").status()
    for task_type, key in (("mail!", "a"), ("mail", "")):
        with pytest.raises(InvalidOption):
            app.find(task_type, key=key)
    assert repr(app.find("work", key="a")) == "<KeyedTask 'work' with key 'a'>"
