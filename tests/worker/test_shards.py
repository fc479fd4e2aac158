"""Several shards on one server: nothing in the code may assume that there is only one."""

from __future__ import annotations

import asyncio

from streamq import StreamQ
from tests.running import clean, serving, until


async def test_tasks_spread_over_shards_run_promote_cancel_and_count(url: str) -> None:
    app = StreamQ("shop", url, shards=3)

    @app.task
    async def double(n: int) -> int:
        return n * 2

    async with serving(app):
        now = await app.aenqueue_many([double.bind(n) for n in range(30)])
        later = await app.aenqueue_many([double.options(delay=0.1).bind(n) for n in range(30)])
        assert [await handle.aresult(10) for handle in now] == [n * 2 for n in range(30)]
        assert [await handle.aresult(10) for handle in later] == [n * 2 for n in range(30)]
        never = await app.aenqueue_many([double.options(delay="1h").bind(n) for n in range(3)])
        assert {await handle.acancel() for handle in never} == {"cancelled"}
    assert {handle.id.split(":")[1] for handle in now} == {"0", "1", "2"}
    counters = (await asyncio.to_thread(app.inspector.type_stats, "double")).counters
    assert (counters["accepted"], counters["completed"], counters["cancelled"]) == (63, 60, 3)
    clean(app)


async def test_dead_letters_of_all_shards_are_listed_and_requeued(url: str) -> None:
    app = StreamQ("shop", url, shards=3)
    fixed = False

    @app.task(max_attempts=1)
    async def work(n: int) -> int:
        if not fixed:
            raise ValueError(n)
        return n

    async with serving(app):
        handles = await app.aenqueue_many([work.bind(n) for n in range(12)])
        await until(lambda: app.inspector.type_stats("work").dead == 12)
        assert {str(letter.id) for letter in app.inspector.all_dead("work")} == {
            handle.id for handle in handles
        }
        assert len(app.inspector.dead("work", start=5, limit=4)) == 4
        fixed = True
        assert sum(app.admin.requeue_type("work")) == 12
        assert [await handle.aresult(10) for handle in handles] == list(range(12))
    clean(app)
