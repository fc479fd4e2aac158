"""enqueue.lua: given -> call -> want."""

from __future__ import annotations

import pytest

from streamq import envelope
from streamq.calls import producer as producer_calls
from streamq.calls.producer import ShardClosed
from streamq.errors import ServerError, ServerFull
from streamq.model.task import (
    Accepted,
    BacklogFull,
    Conflict,
    Duplicate,
    IdempotencyKey,
    NewTask,
    Priority,
    RateLimited,
)
from streamq.transport.sync_transport import SyncTransport
from tests.lua.shard import Shard, Snapshot


def test_accepts_tasks_in_order_and_counts_them(shard: Shard) -> None:
    answers = shard.enqueue(NewTask(b'{"n":1}'), NewTask(b'{"n":2}'))
    assert [d.payload for d in shard.fetch()] == [b'{"n":1}', b'{"n":2}']
    assert all(isinstance(answer, Accepted) for answer in answers)
    assert shard.snapshot() == Snapshot(running=2, counters={"accepted": 2})


@pytest.mark.parametrize(("priority", "letter"), [("high", "h"), ("normal", "n"), ("low", "l")])
def test_priority_names_the_stream_and_the_id(shard: Shard, priority: Priority, letter: str) -> None:
    assert shard.put(priority=priority)[0] == letter
    assert shard.fetch(letters=letter)


def test_a_repeated_call_gets_the_first_answer(shard: Shard) -> None:
    first = shard.enqueue(NewTask(b"{}"), NewTask(b"{}"), sequence=7)
    assert shard.enqueue(NewTask(b"{}"), NewTask(b"{}"), sequence=7) == first
    assert shard.snapshot() == Snapshot(ready=2, counters={"accepted": 2})


def test_a_call_that_arrives_after_a_later_one_is_refused(shard: Shard) -> None:
    shard.enqueue(NewTask(b"{}"), sequence=8)
    with pytest.raises(ServerError, match="STALE call 7 after 8"):
        shard.enqueue(NewTask(b"{}"), sequence=7)
    assert shard.snapshot().ready == 1


def test_two_writers_do_not_know_each_other(shard: Shard) -> None:
    shard.enqueue(NewTask(b"{}"), writer="a", sequence=1)
    shard.enqueue(NewTask(b"{}"), writer="b", sequence=1)
    assert shard.snapshot().ready == 2


def test_a_delayed_task_waits_in_the_schedule(shard: Shard) -> None:
    before = shard.now()
    local = shard.put(delay_ms=60_000)
    assert local[0] == "d"
    located = shard.locate(local)
    assert located.state == "scheduled"
    assert before + 60_000 <= int(located.detail["due_ms"]) <= shard.now() + 60_000
    assert shard.snapshot() == Snapshot(scheduled=1, counters={"accepted": 1})


def test_a_moment_in_the_past_is_now(shard: Shard) -> None:
    shard.enqueue(NewTask(b"{}", due=1000, absolute=True))
    assert shard.snapshot().ready == 1


def test_a_lifetime_becomes_a_moment(shard: Shard) -> None:
    before = shard.now()
    shard.enqueue(NewTask(b"{}", fields=(("x", "5000"),)))
    [delivery] = shard.fetch()
    assert delivery.expires_ms is not None
    assert before + 5000 <= delivery.expires_ms <= shard.now() + 5000


def test_a_lifetime_counts_from_when_the_task_is_due(shard: Shard) -> None:
    [answer] = shard.enqueue(NewTask(b"{}", due=20, fields=(("x", "5000"),)))
    assert isinstance(answer, Accepted)
    shard.promote_until(1)
    [delivery] = shard.fetch()
    assert delivery.expires_ms == int(answer.local[1:].partition("-")[0]) + 5000


def test_the_backlog_limit_is_exact(transport: SyncTransport) -> None:
    shard = Shard(transport, {"max_backlog": "3"})
    answers = shard.enqueue(*[NewTask(b"{}") for _ in range(2)], NewTask(b"{}", due=60_000), NewTask(b"{}"))
    assert [type(answer) for answer in answers] == [Accepted, Accepted, Accepted, BacklogFull]
    [delivery, _] = shard.fetch()
    assert shard.enqueue(NewTask(b"{}")) == [BacklogFull()]  # running tasks count
    shard.settle([delivery])
    assert isinstance(shard.enqueue(NewTask(b"{}"))[0], Accepted)
    assert shard.snapshot().counters["accepted"] == 4


def test_the_rate_limit_is_exact_over_writers_and_tells_when_to_come_again(transport: SyncTransport) -> None:
    shard = Shard(transport, {"rate_limit": "3", "rate_period_ms": "60000"})
    answers = [shard.enqueue(NewTask(b"{}"), writer=f"w{n}")[0] for n in range(5)]
    assert [type(answer) for answer in answers] == [Accepted] * 3 + [RateLimited] * 2
    last = answers[-1]
    assert isinstance(last, RateLimited)
    assert 59_000 < last.retry_after_ms <= 60_000
    assert shard.snapshot().counters["accepted"] == 3


def test_the_rate_limit_opens_again(transport: SyncTransport) -> None:
    shard = Shard(transport, {"rate_limit": "2", "rate_period_ms": "50"})
    accepted = 0
    while accepted < 6:
        accepted += sum(isinstance(a, Accepted) for a in shard.enqueue(NewTask(b"{}")))
    assert shard.command("LLEN", shard.t.rate) <= 2


def test_an_earlier_due_time_wakes_the_daemons(shard: Shard) -> None:
    shard.put(delay_ms=60_000)
    assert shard.command("PUBSUB", "NUMSUB", shard.s.wake) == [shard.s.wake.encode(), 0]


def test_a_full_server_takes_no_task_and_nothing_is_half_done(shard: Shard) -> None:
    shard.put()
    shard.command("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(ServerFull, match="memory limit"):
            shard.enqueue(NewTask(b"{}"), NewTask(b"{}", due=1000))
        [delivery] = shard.fetch()
        assert shard.settle([delivery]) == [True]  # what is there can be drained
    finally:
        shard.command("CONFIG", "SET", "maxmemory", "0")
    assert shard.snapshot() == Snapshot(counters={"accepted": 1, "started": 1, "completed": 1})


def keyed(
    name: str = "k", payload: bytes = b"{}", *, due: int | None = None, window: int = 60_000
) -> NewTask:
    return NewTask(payload, due=due, key=IdempotencyKey(name, envelope.digest("email", payload), window))


@pytest.mark.parametrize("due", [None, 60_000])
def test_a_key_names_one_task(shard: Shard, due: int | None) -> None:
    [first] = shard.enqueue(keyed(due=due))
    assert isinstance(first, Accepted)
    assert shard.enqueue(keyed(), writer="another") == [Duplicate(first.local)]
    assert shard.enqueue(keyed("other"), keyed("other"), keyed())[1:] == [
        Duplicate(shard.enqueue(keyed("other"))[0].local),  # type: ignore[union-attr]
        Duplicate(first.local),
    ]
    assert shard.snapshot().counters == {"accepted": 2}


def test_a_key_with_another_task_is_a_conflict(shard: Shard) -> None:
    [first] = shard.enqueue(keyed(payload=b'{"n":1}'))
    assert isinstance(first, Accepted)
    assert shard.enqueue(keyed(payload=b'{"n":2}')) == [Conflict(f"email:{first.local}")]
    assert shard.snapshot() == Snapshot(ready=1, counters={"accepted": 1})


def test_a_key_counts_for_its_window_only(shard: Shard) -> None:
    shard.enqueue(keyed(window=20))
    while isinstance(shard.enqueue(keyed(window=20))[0], Duplicate):
        pass
    assert shard.snapshot().ready == 2


def test_keys_beside_fields_and_plain_tasks_each_get_their_own(shard: Shard) -> None:
    fields = (("x", "60000"), ("m", "{}"))
    tasks = [NewTask(b"1"), keyed("a")._replace(fields=fields), keyed("b", due=60_000), NewTask(b"2")]
    answers = shard.enqueue(*tasks, keyed("a"), keyed("b"))
    assert [type(answer) for answer in answers] == [Accepted] * 4 + [Duplicate] * 2
    assert [answer.local for answer in answers[1:3]] == [a.local for a in answers[4:]]  # type: ignore[union-attr]
    assert [d.payload for d in shard.fetch()] == [b"1", b"{}", b"2"]


def test_a_duplicate_is_not_refused_and_what_is_refused_leaves_no_key(transport: SyncTransport) -> None:
    shard = Shard(transport, {"max_backlog": "1", "rate_limit": "1", "rate_period_ms": "60000"})
    shard.enqueue(keyed("a"))
    assert [type(a) for a in shard.enqueue(keyed("b"), keyed("a"), keyed("b"))] == [
        BacklogFull,
        Duplicate,
        BacklogFull,
    ]
    assert shard.command("EXISTS", shard.s.key("b")) == 0


def test_a_repeated_call_with_keys_gets_the_first_answer(shard: Shard) -> None:
    first = shard.enqueue(keyed("a"), keyed("b"), sequence=7)
    assert shard.enqueue(keyed("a"), keyed("b"), sequence=7) == first


def test_a_closed_shard_takes_nothing_but_answers_for_what_it_took(shard: Shard) -> None:
    first = shard.enqueue(NewTask(b"{}"), sequence=1)
    shard.command("SET", shard.s.closed, 5)
    assert shard.enqueue(NewTask(b"{}"), sequence=1) == first
    with pytest.raises(ShardClosed):
        shard.enqueue(NewTask(b"{}"), sequence=2)
    with pytest.raises(ShardClosed):
        shard.enqueue(NewTask(b"{}"), writer="new")
    assert shard.run(producer_calls.open_shard(shard.s, 5)) == 5
    with pytest.raises(ShardClosed):
        shard.enqueue(NewTask(b"{}"), sequence=2)
    assert shard.run(producer_calls.open_shard(shard.s, 6)) == 5
    assert shard.run(producer_calls.open_shard(shard.s, 6)) == -1
    shard.enqueue(NewTask(b"{}"), sequence=2)
    assert shard.snapshot().ready == 2


def test_what_a_key_costs(shard: Shard) -> None:
    """A key of 20 bytes: its record takes less than 250 bytes for its window."""

    def used() -> int:
        info = shard.command("INFO", "memory")
        return int(info.split(b"used_memory:")[1].split(b"\r\n")[0])

    shard.enqueue(*[NewTask(b"{}") for _ in range(10)])
    sizes = []
    for prefix in (None, "order"):
        before = used()
        for start in range(0, 20_000, 200):
            names = [f"{prefix}-{n:014}" for n in range(start, start + 200)]
            shard.enqueue(*[keyed(name) if prefix else NewTask(b"{}") for name in names])
        sizes.append((used() - before) / 20_000)
    print(f"a key costs {sizes[1] - sizes[0]:.0f} bytes")
    assert sizes[1] - sizes[0] < 250
