"""Where tasks run: limits of one worker, queues, pools, and who comes first when slots are few."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
import structlog

from streamq import InvalidOption, StreamQ, Unique, UnknownTaskType, UsageError, WorkerOptions
from streamq.calls.worker import Source
from streamq.keys import type_keys
from streamq.model.delivery import Entry
from streamq.options.placement import resources_of
from streamq.worker.served_types import served_types
from streamq.worker.slack import Slack
from tests.running import QUICK, clean, serving, tending, until, working


class Gauge:
    """How many handlers run at once, and at most did, by name."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.done: Counter[str] = Counter()

    async def hold(self, name: str, seconds: float = 0.02) -> None:
        self.now[name] += 1
        self.most[name] = max(self.most[name], self.now[name])
        await asyncio.sleep(seconds)
        self.now[name] -= 1
        self.done[name] += 1


# -- limits of one worker --------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 3])
async def test_slots_of_a_type(url: str, shards: int) -> None:
    app, gauge = StreamQ("shop", url, shards=shards), Gauge()

    @app.task(slots=2)
    async def report(n: int) -> None:
        await gauge.hold("report")

    @app.task
    async def mail(n: int) -> None:
        await gauge.hold("mail")

    await app.aenqueue_many([report.bind(n) for n in range(20)])
    await app.aenqueue_many([mail.bind(n) for n in range(20)])
    async with working(app, WorkerOptions(concurrency=20, block=0.5)):
        await until(lambda: gauge.done["report"] == gauge.done["mail"] == 20)
    assert gauge.most["report"] == 2
    assert gauge.most["mail"] > 2
    clean(app)


async def test_two_gpu_tasks_and_one_gpu(app: StreamQ) -> None:
    gauge = Gauge()

    @app.task(resources={"gpu": 1})
    async def train(n: int) -> None:
        await gauge.hold("gpu")

    @app.task(resources={"gpu": 2})
    async def train_large(n: int) -> None:
        gauge.now["gpu"] += 1
        await gauge.hold("gpu")
        gauge.now["gpu"] -= 1

    @app.task
    async def mail(n: int) -> None:
        await gauge.hold("mail")

    await app.aenqueue_many([train.bind(n) for n in range(10)])
    await app.aenqueue_many([train_large.bind(n) for n in range(10)])
    await app.aenqueue_many([mail.bind(n) for n in range(10)])
    async with working(app, WorkerOptions(concurrency=20, block=0.5, resources={"gpu": 2})):
        await until(lambda: gauge.done["gpu"] == 20 and gauge.done["mail"] == 10, limit=60)
    assert gauge.most["gpu"] <= 2
    clean(app)


def test_a_worker_without_the_resource_leaves_the_type_to_others(app: StreamQ) -> None:
    @app.task(resources={"gpu": 2})
    def train() -> None: ...

    @app.task
    def mail() -> None: ...

    assert served_types(app.registry, WorkerOptions()) == ["mail"]
    assert served_types(app.registry, WorkerOptions(resources={"gpu": 2})) == ["mail", "train"]
    for options in (
        WorkerOptions(types=("train",)), WorkerOptions(types=("train", "mail"), resources={"gpu": 1})
    ):  # fmt: skip
        with pytest.raises(UsageError, match="'train' needs more than this worker has: .*--resources gpu=2"):
            served_types(app.registry, options)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"slots": 0}, "slots=0: must be a whole number of at least 1"),
        ({"resources": {"gpu": 0}}, "must be a whole number of at least 1"),
        ({"resources": {"g p u": 1}}, "use letters, digits"),
        ({"resources": "gpu"}, "must be a mapping of names to numbers"),
        ({"queue": "a b"}, "use letters, digits"),
        ({"queue": None}, "use letters, digits"),
        ({"within": 0}, "within"),
    ],
)
def test_wrong_options(app: StreamQ, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        app.task(**given)(lambda: None)


def test_resources_of_a_command_line() -> None:
    assert resources_of(["gpu=2,licence=1", "disk=3"], "--resources") == (
        ("disk", 3), ("gpu", 2), ("licence", 1)
    )  # fmt: skip
    for text in ("gpu", "gpu=x", "gpu=-1", "=2", "gpu=0"):
        with pytest.raises(InvalidOption, match="--resources"):
            resources_of([text], "--resources")


# -- queues ----------------------------------------------------------------------------------------------


def test_queues_choose_types(app: StreamQ) -> None:
    @app.task(queue="media")
    def resize() -> None: ...

    @app.task(queue="media")
    def crop() -> None: ...

    @app.task
    def mail() -> None: ...

    def chosen(*queues: str, types: tuple[str, ...] | None = None) -> list[str]:
        return served_types(app.registry, WorkerOptions(queues=queues, types=types))

    assert chosen("media") == ["crop", "resize"]
    assert chosen("media", "default") == ["crop", "mail", "resize"]
    assert chosen("media", types=("crop",)) == ["crop"]
    with pytest.raises(UsageError, match=r"no task type has queue='medai'; there are: default, media"):
        chosen("medai")
    with pytest.raises(InvalidOption, match="must be several names"):
        WorkerOptions(queues="media")
    with pytest.raises(InvalidOption, match="must be several names"):
        WorkerOptions(pools=())


# -- pools -----------------------------------------------------------------------------------------------


async def test_a_pool_runs_its_tasks_and_no_others(url: str) -> None:
    app, ran = StreamQ("shop", url, shards=2), list[tuple[str, str]]()

    @app.task(unique=Unique(by=("n",)), retention="1h", max_attempts=2)
    async def email(n: int, where: str) -> str:
        if len(ran) == 1:
            ran.append(("failed", where))
            raise ConnectionError
        ran.append((str(n), where))
        return f"{where} {n}"

    async with working(app):
        here = await email.aenqueue(1, "default")
        assert await here.aresult(20) == "default 1"
        with structlog.testing.capture_logs() as said:
            there = await email.options(pool="eu").aenqueue(2, "eu")
            again = await email.options(pool="eu").aenqueue(2, "eu")
            third = email.options(pool="eu", delay=0.2).enqueue(3, "eu")
        assert there.id.startswith("email@eu:")
        assert again.id == there.id  # the unique key holds in its pool
        [warning] = [one for one in said if one["event"] == "pool.not_served"]
        assert (warning["type"], warning["pool"]) == ("email@eu", "eu")
        assert await there.astatus() == "ready"
        assert app.handle(there.id).id == there.id
    async with tending(app, QUICK), working(app, WorkerOptions(pools=("eu",), block=0.5, heartbeat=0.2)):
        other = email.enqueue(4, "default")
        assert await there.aresult(20) == "eu 2"
        assert await third.aresult(20) == "eu 3"
        with structlog.testing.capture_logs() as said:
            app._enqueuer._pools._looked.clear()
            await email.options(pool="eu").aenqueue(5, "eu")
            sent = app.send("email", {"n": 6, "where": "eu"}, pool="eu")
            assert app.send("email@eu", {"n": 6, "where": "eu"}).id == sent.id
        assert not [one for one in said if one["event"] == "pool.not_served"]
        assert await sent.aresult(20) == "eu 6"
        await until(lambda: [one.details.get("types") for one in app.inspector.workers()] == [["email@eu"]])
        await until(lambda: app.inspector.type_stats("email@eu").ready == 0)
    assert await other.astatus() == "ready"
    clean(app)


async def test_a_worker_may_serve_several_pools(app: StreamQ) -> None:
    seen: list[str] = []

    @app.task
    async def work(where: str) -> None:
        seen.append(where)

    await app.aenqueue_many([work.bind("default"), work.options(pool="eu").bind("eu")])
    async with working(app, WorkerOptions(pools=("eu", "default"), block=0.5)):
        await until(lambda: len(seen) == 2)
    assert set(seen) == {"eu", "default"}


async def test_idempotency_keys_hold_in_a_pool(app: StreamQ) -> None:
    @app.task
    async def work(n: int) -> None: ...

    pooled = work.options(pool="eu", idempotency_key="order:17")
    first = await pooled.aenqueue(1)
    again = pooled.enqueue(1)
    assert again.id == first.id
    assert again.duplicate
    assert app.find("work@eu", key="order:17").status() == "ready"


def test_names_of_pools(app: StreamQ) -> None:
    @app.task
    def work() -> None: ...

    with pytest.raises(InvalidOption, match="pool='e u': use letters"):
        work.options(pool="e u")
    with pytest.raises(InvalidOption, match="@ is for pools"):
        app.task(name="work@eu")(lambda: None)
    assert served_types(app.registry, WorkerOptions(types=("work@eu",))) == ["work@eu"]
    assert served_types(app.registry, WorkerOptions()) == ["work"]
    with pytest.raises(UnknownTaskType, match="nothing"):
        served_types(app.registry, WorkerOptions(types=("nothing@eu",)))


# -- promises --------------------------------------------------------------------------------------------


def test_the_least_slack_comes_first() -> None:
    keys = [type_keys("shop", 0, name) for name in ("bulk", "report", "mail")]
    slack = Slack({"mail": 5.0, "report": 3600.0}, 3.0, 0.0)

    def order(now: float) -> list[str]:
        return [one.type for one in slack.ordered(keys, now)]

    def fetched(asked: list[str], took: dict[str, float], room: int, now: float) -> None:
        """took: by type, the age of what was taken."""
        parts = [
            (
                Source(type_keys("shop", 0, name), "n", 9),
                [Entry("n", f"{int(1e6 * 1000 - age * 1000)}-0", [])],
            )
            for name, age in took.items()
        ]
        slack.fetched(
            [Source(type_keys("shop", 0, name), "n", 9) for name in asked], (10**9, parts), room, now
        )

    assert order(0.0) == ["mail", "report", "bulk"]
    fetched(["mail", "report", "bulk"], {"report": 3598.0}, 1, 1.0)  # so mail had none
    assert order(1.0) == ["report", "mail", "bulk"]
    fetched(["report", "mail", "bulk"], {"report": 9000.0, "mail": 7.0}, 2, 2.0)
    assert order(2.0) == ["report", "mail", "bulk"]  # both are late: in their order
    fetched(["report", "mail", "bulk"], {"report": 10.0}, 5, 2.5)  # room was left: the others had none
    assert order(2.5) == ["mail", "report", "bulk"]
    assert order(6.0) == ["bulk", "mail", "report"]  # bulk has not been looked at for more than three seconds
    assert slack.limits({"mail": 8, "bulk": 8}, 8, 2.5) == {"mail": 8, "bulk": 8}
    assert slack.limits({"mail": 8, "bulk": 8}, 8, 6.0) == {"mail": 8, "bulk": 2}


async def test_mail_keeps_its_wait_beside_a_long_backlog(app: StreamQ) -> None:
    waits: list[float] = []
    reports: list[int] = []

    @app.task(retention=0)
    async def report(n: int) -> None:
        reports.append(n)
        await asyncio.sleep(0.02)

    @app.task(within="2s", retention=0)
    async def mail(at: float) -> None:
        waits.append(asyncio.get_running_loop().time() - at)

    await app.aenqueue_many([report.bind(n) for n in range(3000)])
    async with serving(app, WorkerOptions(concurrency=2, block=0.5)):
        await until(lambda: len(reports) > 20)
        for _ in range(20):
            await mail.aenqueue(asyncio.get_running_loop().time())
            await asyncio.sleep(0.05)
        await until(lambda: len(waits) == 20)
        before = len(reports)
        await until(lambda: len(reports) > before)  # they go on
    assert sorted(waits)[-2] < 2.0
