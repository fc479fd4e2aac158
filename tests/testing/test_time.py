"""Time that the test moves: for whatever goes by the server's clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from time import sleep, time

import pytest

from streamq import Cron, Every, Lane, ResultUnavailable, Retry, StreamQ, Unique, get_context, scripts
from streamq.embedded import EmbeddedServer
from streamq.testing import Queue
from streamq.testing.clock import Clock


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as found:
        yield found


@pytest.fixture
def app() -> StreamQ:
    return StreamQ("shop")


@pytest.fixture
def queue(app: StreamQ, server: EmbeddedServer) -> Iterator[Queue]:
    with Queue(app, server) as found:
        yield found
        assert app.inspector.audit().problems == []


def test_schedules_run_each_at_its_own_time(app: StreamQ, queue: Queue) -> None:
    runs: list[datetime | None] = []

    @app.task(schedule=Cron("0 3 * * *", tz="Europe/Madrid"))
    def report() -> None:
        runs.append(get_context().scheduled_for)

    @app.task(schedule=Every("10h"))
    def tidy() -> None: ...

    assert queue.run() == []
    types = [task.type for task in queue.advance("3d")]
    assert types.count("report") == 3
    assert types.count("tidy") == 7
    assert [at.astimezone().minute for at in runs if at is not None] == [0, 0, 0]
    first, second, third = (at for at in runs if at is not None)
    assert second - first in {timedelta(hours=n) for n in (23, 24, 25)}
    assert third > second
    assert app.schedules.get("report").runs == 3


def test_schedules_that_a_call_has_put(app: StreamQ, queue: Queue) -> None:
    seen: list[str] = []

    @app.task
    def greet(name: str) -> None:
        seen.append(name)

    app.schedules.put("hello", Every("1h"), greet.bind("Ada"))
    queue.advance("150m")
    assert seen == ["Ada", "Ada"]
    app.schedules.pause("hello")
    assert queue.advance("10h") == []


def test_times_that_calls_name(app: StreamQ, queue: Queue) -> None:
    @app.task
    def work(text: str) -> None: ...

    queue.advance("2d")
    at = datetime.now(UTC) + timedelta(hours=1)  # the clock of Python is moved too: time-machine is installed
    handle = work.options(at=at).enqueue("at")
    later = work.options(delay="3h").enqueue("later")
    assert {round(left / 60) for left in queue.scheduled().values()} == {60, 180}
    assert [task.id for task in queue.advance("1h")] == [handle.id]
    assert [task.id for task in queue.advance("2h")] == [later.id]


def test_expiry(app: StreamQ, queue: Queue) -> None:
    @app.task
    def work(hours: int) -> None:
        if get_context().attempt == 1:
            raise Retry(after=3600 * hours)

    work.options(expires="2h").enqueue(1)
    work.options(expires="2h").enqueue(3)
    assert [task.state for task in queue.advance("4h")] == ["completed", "expired"]
    work.options(expires="2h").enqueue(1)
    assert [task.state for task in queue.advance("1h")] == ["completed"]


def test_debounce_throttle_and_unique_keys(app: StreamQ, queue: Queue) -> None:
    seen: list[tuple[str, int]] = []

    @app.task(unique=Unique(by=("customer",)), debounce="5s", max_wait="8s")
    def index(customer: str, version: int) -> None:
        seen.append((customer, version))

    @app.task(throttle="1m", unique=Unique(by=("customer",)))
    def mail(customer: str, version: int) -> None:
        seen.append((customer, version))

    index.enqueue("ada", 1)
    assert queue.advance("4s") == []
    index.enqueue("ada", 2)  # the run is put off again, to the end of max_wait
    assert queue.advance("2s") == []
    assert [task.type for task in queue.advance("3s")] == ["index"]
    assert seen == [("ada", 2)]
    mail.enqueue("bob", 1)
    mail.enqueue("bob", 2)
    queue.run()
    assert seen[1:] == [("bob", 1)]
    queue.advance("59s")
    mail.enqueue("bob", 3)
    queue.run()
    assert seen[1:] == [("bob", 1)]
    queue.advance("1s")
    mail.enqueue("bob", 4)
    queue.run()
    assert seen[1:] == [("bob", 1), ("bob", 4)]


def test_lanes_go_on_as_their_rate_lets_them(app: StreamQ, queue: Queue) -> None:
    seen: list[int] = []

    @app.task(lane=Lane("customer", rate="1/m"))
    def call(customer: str, n: int) -> None:
        seen.append(n)

    @app.task(lane=Lane("customer", running=1))
    def one_by_one(customer: str, n: int) -> None: ...

    app.enqueue_many([call.bind("ada", n) for n in range(4)])
    assert len(queue.run()) == 1
    queue.advance("150s")
    assert seen == [0, 1, 2]
    queue.advance("1m")
    assert seen == [0, 1, 2, 3]
    app.enqueue_many([one_by_one.bind("ada", n) for n in range(3)])
    assert len(queue.run()) == 3


def test_results_are_kept_for_their_time(app: StreamQ, queue: Queue) -> None:
    @app.task(retention="1h")
    def double(n: int) -> int:
        return 2 * n

    handle = double.enqueue(4)
    queue.run()
    queue.advance("50m")
    assert handle.result() == 8
    queue.advance("90m")  # results are kept in buckets, which end together
    with pytest.raises(ResultUnavailable):
        handle.result(0.1)


def test_retries_run_after_their_delays(app: StreamQ, queue: Queue) -> None:
    at: list[float] = []

    @app.task(max_attempts=3, backoff=lambda _state: 600.0)
    def flaky() -> None:
        at.append(time())
        if len(at) < 3:
            raise ConnectionError

    flaky.enqueue()
    assert queue.advance("9m") == []
    assert len(at) == 1
    [task] = queue.advance("12m")
    assert task.attempts == 3
    assert [round((after - before) / 60) for before, after in pairwise(at)] == [10, 10]


def test_parts_of_a_time_add_up_however_slow_the_first_move_is(
    app: StreamQ, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task
    def charge() -> None:
        remind.options(delay="3d").enqueue()

    @app.task
    def remind() -> None: ...

    move_to = Clock.move_to

    def late(clock: Clock, at_ms: float) -> None:
        if clock.moved_ms is None:
            sleep(0.05)  # on a busy machine the clock goes on before it stands
        move_to(clock, at_ms)

    monkeypatch.setattr(Clock, "move_to", late)
    charge.enqueue()
    assert [task.type for task in queue.advance("2d")] == ["charge"]
    assert [task.type for task in queue.advance("1d")] == ["remind"]


def test_the_clock_is_put_back(app: StreamQ, server: EmbeddedServer) -> None:
    def texts() -> list[tuple[str, str]]:
        return [(script.text, script.sha) for script in map(scripts.load, scripts.names())]

    before = texts()
    with Queue(app, server) as queue:
        queue.run()
        assert texts() == before  # no script is changed as long as no time is moved
        queue.advance("1000d")
        assert texts() != before
        assert datetime.now(UTC).year >= 2029
    assert texts() == before
    assert abs(time() - datetime.now(UTC).timestamp()) < 60
    assert datetime.now(UTC).year < 2029
