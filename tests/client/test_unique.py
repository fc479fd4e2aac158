"""Unique keys as a program uses them: scenarios with real workers, daemons and many callers at once."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from streamq import InvalidOption, StreamQ, Unique, UniqueConflict, UsageError
from streamq.embedded import EmbeddedServer
from tests.conftest import command
from tests.running import clean, serving, tending, until, wait_until, working


def accepted(app: StreamQ, task_type: str) -> int:
    return app.inspector.type_stats(task_type).counters.get("accepted", 0)


def locks_of(app: StreamQ, task_type: str) -> int:
    return len(app.inspector.locks(task_type))


async def test_a_thousand_calls_at_once_make_one_task_and_equal_handles(url: str) -> None:
    apps = [StreamQ("shop", url) for _ in range(4)]

    def define(app: StreamQ) -> Any:
        @app.task(unique=Unique(by=("customer",)))
        def email(customer: int, n: int) -> int:
            return n

        return email

    types = [define(app) for app in apps]
    with ThreadPoolExecutor(8) as threads:
        loop = asyncio.get_running_loop()
        plain = [loop.run_in_executor(threads, types[n % 4].enqueue, 7, n) for n in range(500)]
        handles = [*await asyncio.gather(*plain, *(types[n % 4].aenqueue(7, n) for n in range(500)))]
    assert len({handle.id for handle in handles}) == 1
    assert sum(not handle.duplicate for handle in handles) == 1
    assert accepted(apps[0], "email") == 1
    async with working(apps[0]):
        assert isinstance(await handles[0].aresult(10), int)
    assert not types[0].enqueue(7, 0).duplicate
    clean(apps[0])


@pytest.mark.parametrize("dies", [False, True])
async def test_ten_calls_after_run_once_more_with_the_last_arguments(url: str, dies: bool) -> None:
    app, go, ran = StreamQ("shop", url), asyncio.Event(), list[int]()

    @app.task(unique=Unique(by=("page",), on_conflict="after"), max_attempts=1)
    async def render(page: str, n: int) -> int:
        ran.append(n)
        await go.wait()
        if dies and n == 0:
            raise ValueError("broken")
        return n

    async with serving(app):
        first = await render.aenqueue("home", 0)
        await until(lambda: ran == [0])
        handles = [await render.aenqueue("home", n) for n in range(1, 11)]
        assert len({handle.id for handle in handles}) == 1
        assert [handle.duplicate for handle in handles] == [False] + 9 * [True]
        assert await handles[0].astatus() == "scheduled"
        go.set()
        assert await handles[0].aresult(10) == 10
        assert await first.astatus() == ("dead" if dies else "completed")
    assert ran == [0, 10]
    assert locks_of(app, "render") == 0
    clean(app)


async def test_debounce_runs_the_last_call_and_never_waits_beyond_the_most(url: str) -> None:
    """A call each 100 ms for six seconds, with debounce 0.5 s and max_wait 2 s: as 5 s, 20 s and a minute."""
    app, ran, latest = StreamQ("shop", url), list[int](), list[int]()

    @app.task(unique=Unique(by=("document",)), debounce=0.5, max_wait=2)
    async def index(document: str, n: int) -> None:
        ran.append(n)
        latest.append(last)

    last = -1
    async with serving(app):
        for n in range(60):
            last = n
            await index.aenqueue("readme", n)
            await asyncio.sleep(0.1)  # the pace of the calls, no wait for anything
        await until(lambda: bool(ran) and ran[-1] == 59)
    assert len(ran) in (3, 4), ran  # a slow host makes the six seconds longer
    assert all(0 <= now - n <= 2 for n, now in zip(ran, latest, strict=True)), (ran, latest)
    assert accepted(app, "index") == len(ran)
    clean(app)


@pytest.mark.parametrize("free", ["done", "started"])
async def test_a_newer_task_supersedes_one_that_runs(url: str, free: Any) -> None:
    """With a lease of a minute, so that it is the message that stops the handler."""
    app, ran, stopped = StreamQ("shop", url), list[int](), list[int]()
    rule = Unique(by=("page",), until=free, on_conflict="replace", supersede=True)

    @app.task(unique=rule, lease=60)
    async def render(page: str, n: int) -> int:
        ran.append(n)
        try:
            if n == 0:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append(n)
            raise
        return n

    async with serving(app):
        first = await render.aenqueue("home", 0)
        await until(lambda: ran == [0])
        other = await render.aenqueue("other", 7)
        newer = await app.asend("render", {"page": "home", "n": 1})
        assert newer.id != first.id
        assert await newer.aresult(15) == 1
        await until(lambda: first.status() == "cancelled")
        assert await other.aresult(15) == 7
    assert stopped == [0]
    assert locks_of(app, "render") == 0
    clean(app)


async def test_debounce_with_supersede_stops_the_run_before(url: str) -> None:
    app, ran = StreamQ("shop", url), list[str]()

    @app.task(unique=Unique(by=("document",), supersede=True), debounce=0.1)
    async def index(document: str, text: str) -> None:
        ran.append(text)
        if text == "old":
            await asyncio.Event().wait()

    async with serving(app):
        old = await index.aenqueue("readme", "old")
        await until(lambda: ran == ["old"])
        new = await index.aenqueue("readme", "new")
        await new.aresult(15)
        await until(lambda: old.status() == "cancelled")
    clean(app)


async def test_until_started_with_a_retry_and_a_twin_runs_both(url: str) -> None:
    app, go, ran = StreamQ("shop", url), asyncio.Event(), Counter[int]()

    @app.task(unique=Unique(by=("page",), until="started"), max_attempts=2, backoff=lambda _: 0.3)
    async def render(page: str, n: int) -> int:
        ran[n] += 1
        await go.wait()
        if ran[0] == 1 and n == 0:
            raise ValueError("broken")
        return n

    async with serving(app):
        first = await render.aenqueue("home", 0)
        assert (await render.aenqueue("home", 9)).duplicate or ran
        await until(lambda: ran[0] == 1)
        twin = await render.aenqueue("home", 1)
        assert twin.id != first.id
        go.set()
        assert [await first.aresult(10), await twin.aresult(10)] == [0, 1]
    assert (ran[0], ran[1]) == (2, 1)
    assert locks_of(app, "render") == 0
    clean(app)


async def test_throttle_answers_with_the_first_call_also_when_it_has_ended(url: str) -> None:
    app = StreamQ("shop", url)

    @app.task(unique=Unique(by=("customer",)), throttle=60)
    async def remind(customer: int, n: int) -> int:
        return n

    async with serving(app):
        first = await remind.aenqueue(7, 1)
        assert await first.aresult(10) == 1
        assert (await remind.aenqueue(7, 2)).id == first.id
        assert (await remind.aenqueue(8, 2)).id != first.id
        by_name = await app.asend("remind", {"customer": 7, "n": 3})
        assert by_name.id == first.id
    quick = remind.options(throttle=0.05)
    one = quick.enqueue(9, 1)
    wait_until(lambda: quick.enqueue(9, 2).id != one.id)
    clean(app)


@pytest.mark.parametrize("shards", [1, 3])
async def test_throttle_with_trailing_runs_the_last_call_of_each_interval(url: str, shards: int) -> None:
    """Calls for some intervals, from programs with the handler's code and without it."""
    app, ran = StreamQ("shop", url, shards=shards), list[int]()

    @app.task(unique=Unique(by=("page",)), throttle=0.5, trailing=True)
    async def render(page: str, n: int) -> None:
        ran.append(n)

    other, ids = StreamQ("shop", url, shards=shards), dict[str, int]()
    async with serving(app):
        for n in range(40):
            by_name = n % 4 == 3
            handle = await (
                other.asend("render", {"page": "a", "n": n}) if by_name else render.aenqueue("a", n)
            )
            ids[handle.id] = n
            await asyncio.sleep(0.05)  # the pace of the calls, no wait for anything
        await until(lambda: bool(ran) and ran[-1] == 39)
        await until(lambda: app.idle(scheduled=True))
    assert ran == list(ids.values())
    due = [int(re.split("[-:]", one)[2][1:]) for one in ids]
    assert len(ran) >= 4
    assert all(later - earlier >= 499 for earlier, later in pairwise(due)), due
    assert len({one.split(":")[1] for one in ids}) == 1
    clean(app)


def test_a_throttle_with_trailing_goes_on_in_the_shard_that_was_its_home(url: str) -> None:
    few = StreamQ("shop", url, shards=1)

    @few.task(unique=Unique(by=("n",)), throttle=60, trailing=True)
    async def email(n: int, text: str) -> None: ...

    for n in range(10):
        email.enqueue(n, "first")
    last = [email.enqueue(n, "second").id for n in range(10)]
    many = StreamQ("shop", url, shards=8)

    @many.task(name="email", unique=Unique(by=("n",)), throttle=60, trailing=True)
    async def email_(n: int, text: str) -> None: ...

    assert [email_.enqueue(n, "third").id for n in range(10)] == last
    assert b"third" in (many.inspector.task(last[0]).payload or b"")


@pytest.mark.parametrize("shards", [1, 4])
def test_throttle_has_one_home_among_several_shards(url: str, shards: int) -> None:
    app = StreamQ("shop", url, shards=shards)

    @app.task(unique=Unique(by=("customer",)), throttle=60)
    def remind(customer: int) -> None: ...

    first = [remind.enqueue(n).id for n in range(10)]
    assert [remind.enqueue(n).id for n in range(10)] == first
    assert [one.id for one in app.enqueue_many([remind.bind(n) for n in range(10)])] == first
    other = StreamQ("shop", url, shards=shards)
    assert [other.send("remind", {"customer": n}).id for n in range(10)] == first
    assert len({one.split(":")[1] for one in first}) > shards // 2


async def test_who_sends_by_name_heeds_the_rule_of_the_type(any_url: str) -> None:
    app = StreamQ("shop", any_url, shards=3)

    @app.task(unique=Unique(by=("customer",)))
    async def email(customer: int, n: int = 0) -> int:
        return customer

    first = email.enqueue(7)
    other = StreamQ("shop", any_url, shards=3)
    handles = [
        other.send("email", {"customer": 7, "n": 1}),
        await other.asend("email", {"customer": 7, "n": 2}),
        *other.enqueue_many([other.bound("email", {"customer": 7, "n": n}) for n in range(5)]),
        *await other.aenqueue_many([other.bound("email", {"customer": 7, "n": n}) for n in range(5)]),
    ]
    assert {handle.id for handle in handles} == {first.id}
    many = other.enqueue_many([other.bound("email", {"customer": n % 10}) for n in range(40)])
    assert len({handle.id for handle in many}) == 10
    assert accepted(app, "email") == 10
    async with working(app):
        assert [await one.aresult(20) for one in many[:10]] == list(range(10))
    await until(lambda: locks_of(app, "email") == 0)
    clean(app)


def test_raise_names_the_holder_and_the_others_of_the_call(url: str) -> None:
    app = StreamQ("shop", url)

    @app.task(unique=Unique(on_conflict="raise"))
    def email(n: int) -> None: ...

    first = email.enqueue(1)
    with pytest.raises(UniqueConflict, match=re.escape(first.id)) as caught:
        email.enqueue(1)
    assert caught.value.task_id == first.id
    with pytest.raises(UniqueConflict) as caught:
        app.enqueue_many([email.bind(1), email.bind(2)])
    one, two = caught.value.accepted
    assert one is None
    assert two is not None


def test_a_key_of_one_call_needs_no_rule_of_the_type(url: str) -> None:
    app = StreamQ("shop", url)

    @app.task
    def email(n: int) -> None: ...

    keyed = email.options(unique="acme")
    first = keyed.enqueue(1)
    assert keyed.enqueue(2).id == first.id
    assert email.enqueue(1).id != first.id
    assert app.send("email", {"n": 5}, unique="acme").id == first.id
    assert email.options(unique=Unique(by=("n",))).enqueue(1).id != first.id

    @app.task(unique=True)
    def letter(n: int) -> None: ...

    assert letter.enqueue(1).id == letter.enqueue(1).id
    assert letter.options(unique=False).enqueue(1).id != letter.enqueue(1).id
    assert letter.options(unique="a").enqueue(1).id != letter.enqueue(1).id


def test_a_unique_and_an_idempotency_key_go_together(url: str) -> None:
    app = StreamQ("shop", url, shards=4)

    @app.task(unique=Unique(by=("n",)))
    def email(n: int) -> None: ...

    request = email.options(idempotency_key="request")
    first = request.enqueue(1)
    assert request.enqueue(1).id == email.enqueue(1).id == first.id
    first.cancel()
    assert request.enqueue(1).id == first.id
    assert email.enqueue(1).id != first.id


@pytest.mark.parametrize("durability", ["master", "aof"])
def test_the_answers_are_the_same_where_a_task_must_be_durable(
    redis_server: EmbeddedServer, valkey: EmbeddedServer, durability: Any
) -> None:
    if durability == "aof":
        command(valkey.url, "CONFIG", "SET", "appendonly", "yes")
    app = StreamQ("shop", valkey.url)
    command(valkey.url, "FLUSHALL")

    @app.task(unique=Unique(by=("n",)), durability=durability)
    def email(n: int) -> None: ...

    first = email.enqueue(1)
    assert email.enqueue(1).id == first.id
    assert app.send("email", {"n": 1}, durability=durability).id == first.id
    command(valkey.url, "CONFIG", "SET", "appendonly", "no")


async def test_requeue_says_who_holds_the_key_and_force_runs_both(url: str) -> None:
    app, broken = StreamQ("shop", url), [True]

    @app.task(unique=Unique(by=("n",)), max_attempts=1)
    async def email(n: int) -> str:
        if broken[0]:
            raise ValueError("broken")
        return "done"

    async with serving(app):
        first = await email.aenqueue(1)
        await until(lambda: app.inspector.task(first.id).state == "dead")
    second = email.enqueue(1)
    assert second.id != first.id
    with pytest.raises(UsageError, match=f"{re.escape(first.id)}.*{re.escape(second.id)}"):
        app.admin.requeue([first.id])
    broken[0] = False
    assert app.admin.requeue([first.id], force=True) == 1
    async with serving(app):
        assert [await first.aresult(10), await second.aresult(10)] == ["done", "done"]
    assert locks_of(app, "email") == 0
    clean(app)


async def test_a_change_of_the_number_of_shards_finds_a_lock_in_its_old_home(url: str) -> None:
    few = StreamQ("shop", url, shards=1)

    @few.task(unique=Unique(by=("n",)))
    async def email(n: int) -> None: ...

    held = [email.enqueue(n) for n in range(20)]
    many = StreamQ("shop", url, shards=8)

    @many.task(name="email", unique=Unique(by=("n",)))
    async def email_(n: int) -> None: ...

    assert [email_.enqueue(n).id for n in range(20)] == [handle.id for handle in held]
    assert [(await email_.aenqueue(n)).id for n in range(20)] == [handle.id for handle in held]
    async with serving(many):
        for handle in held:
            await handle.aresult(20)
    shards = {email_.enqueue(n).id.split(":")[1] for n in range(20)}
    assert len(shards) > 1


# -- what cannot be ------------------------------------------------------------------------------------------


@pytest.fixture
def app() -> StreamQ:
    return StreamQ("shop", "redis://nowhere")


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"unique": 3}, "unique=3: must be Unique(by=('customer_id',))"),
        ({"unique": "k"}, "the text of a key is for a single call, .options(unique=...)"),
        ({"debounce": "5s", "unique": {"until": "done"}}, "leave out until and on_conflict"),
        ({"debounce": "5s", "max_wait": "4s"}, "max_wait=4 s is below debounce=5 s"),
        ({"max_wait": "4s"}, "max_wait has no effect without debounce"),
        ({"unique": {}, "max_wait": "4s"}, "pass debounce as well"),
        ({"throttle": "5s", "debounce": "5s"}, "debounce and throttle exclude each other"),
        ({"throttle": "5s", "unique": {"on_conflict": "raise"}}, "leave out unique's until and on_conflict"),
        ({"throttle": "5s", "unique": False}, "throttle has no effect with unique=False: leave it out"),
        ({"throttle": "31d"}, "throttle='31d': must be at most 30 days"),
        ({"trailing": True}, "trailing has no effect without debounce or throttle"),
        ({"trailing": True, "unique": {}}, "trailing runs the last call of throttle's interval"),
        ({"trailing": True, "debounce": "5s"}, "trailing runs the last call of throttle's interval"),
        ({"unique": {"supersede": True}}, "supersede needs a newer task"),
        (
            {"unique": {"supersede": True}, "throttle": 5},
            "leave out unique's until and on_conflict, and super",
        ),
        ({"trailing": "yes", "throttle": "5s"}, "trailing='yes': must be True or False"),
        ({"unique": {"by": ("m",)}}, "by='m' is not an argument of task type 'email': "),
    ],
)
def test_a_rule_that_contradicts_itself_is_refused_at_import(
    app: StreamQ, policy: dict[str, Any], said: str
) -> None:
    if isinstance(policy.get("unique"), dict):
        policy = {**policy, "unique": Unique(**policy["unique"])}

    def email(n: int) -> None: ...

    with pytest.raises(InvalidOption, match=re.escape(said)):
        app.task(name="email", **policy)(email)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"until": "ended"}, "until='ended': must be one of done, started"),
        ({"on_conflict": "ignore"}, "on_conflict='ignore': must be one of return, raise, replace"),
        ({"until": "started", "on_conflict": "after"}, "so until='started' contradicts it"),
        ({"by": 5}, "by=5: must be argument names"),
        ({"by": ("",)}, "must be argument names"),
        ({"supersede": 1}, "supersede=1: must be True or False"),
        ({"supersede": True, "on_conflict": "after"}, "on_conflict='after' lets it go on"),
    ],
)
def test_a_unique_that_cannot_be(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(said)):
        Unique(**given)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"unique": "x" * 201}, "must be text of 1 to 200 bytes"),
        ({"unique": ""}, "must be text of 1 to 200 bytes"),
        ({"unique": "a", "shard_key": "b"}, "shard_key and a unique key exclude each other"),
        ({"debounce": "5s", "delay": 3}, "debounce sets when the task is due"),
        ({"debounce": "5s", "throttle": "5s"}, "debounce and throttle exclude each other"),
        ({"throttle": "5s", "idempotency_key": "a"}, "throttle is itself an idempotency key"),
        ({"unique": Unique(by=("m",))}, "by='m' is not an argument of task type 'email': "),
        ({"unique": 5}, "unique=5: must be Unique(by=('customer_id',))"),
        ({"unique": ("n",)}, "unique=('n',): must be Unique(by=('customer_id',))"),
        ({"debounce": "soon"}, "debounce='soon': not a duration"),
        ({"throttle": 5, "trailing": 1}, "trailing=1: must be True or False"),
        ({"unique": Unique(by=("n",), until="done"), "debounce": 5}, "leave out until and on_conflict"),
        ({"max_wait": 5}, "max_wait has no effect without debounce"),
        ({"throttle": 5, "trailing": True, "delay": 3}, "trailing sets when the last call runs"),
    ],
)
def test_options_of_a_call_that_cannot_be(app: StreamQ, options: dict[str, Any], said: str) -> None:
    @app.task
    def email(n: int) -> None: ...

    with pytest.raises(InvalidOption, match=re.escape(said)):
        email.options(**options)


def test_a_key_has_one_shard_in_every_program(app: StreamQ) -> None:
    @app.task(unique=Unique(by=("a", "b")))
    def email(a: int, b: int, c: int = 0) -> None: ...

    routes = {email.bind(1, 2).route, email.bind(b=2, a=1, c=5).route}
    assert len(routes) == 1
    assert email.bind(2, 1).route not in routes
    assert threading.active_count() >= 1


async def test_a_lock_outlives_neither_a_worker_that_is_gone_nor_its_dead_letter(url: str) -> None:
    app, hang = StreamQ("shop", url), asyncio.Event()

    @app.task(unique=Unique(by=("n",)), lease=0.3, max_lost=1)
    async def email(n: int) -> None:
        await hang.wait()

    first = email.enqueue(1)
    keys = "streamq:{shop:0}:email:normal"
    app.inspector.types()
    command(url, "XGROUP", "CREATE", keys, "workers", "0", "MKSTREAM")
    command(url, "XREADGROUP", "GROUP", "workers", "gone", "COUNT", 1, "STREAMS", keys, ">")
    assert email.enqueue(1).id == first.id
    async with tending(app):
        await until(lambda: app.inspector.task(first.id).state == "dead")
    assert locks_of(app, "email") == 0
    assert email.enqueue(1).id != first.id
    clean(app)
