"""Follow-ups in the settle script: they exist if and only if their delivery was settled as completed."""

from __future__ import annotations

from typing import Any

import pytest

from streamq import envelope
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls import worker as worker_calls
from streamq.calls.call import Call
from streamq.calls.locate import locate
from streamq.errors import ServerError
from streamq.keys import TypeKeys, type_keys
from streamq.model.counts import Counts
from streamq.model.delivery import Delivery, Entry
from streamq.model.effect import Follow, FollowUp
from streamq.model.outcome import Cancelled, Completed, Died, HandedBack, Outcome, Retried, Settlement
from streamq.model.task import IdempotencyKey, NewTask
from tests.lua.shard import Shard

NOTE = type_keys("shop", 0, "note")
KEY = IdempotencyKey("once", b"0" * 16, 60_000)


def local(n: int, letter: str = "n") -> str:
    return f"{letter}1700000000000-{(1 << 62) + n}"


def settling(
    shard: Shard, delivery: Delivery, *tasks: FollowUp, outcome: Outcome | None = None, sequence: int = 1
) -> Call[list[bool]]:
    item = Settlement(delivery.place, delivery.local, outcome or Completed(), effects=(Follow(tasks),))
    return worker_calls.settle(shard.t, shard.s, "settler", sequence, [item])


def books(shard: Shard, t: TypeKeys = NOTE) -> Counts:
    found = shard.run(question_calls.counts(t))
    assert found.imbalance == 0
    return found


def entries(shard: Shard, t: TypeKeys, letter: str = "n") -> list[dict[str, bytes]]:
    rows = shard.command("XRANGE", t.stream(letter), "-", "+")
    return [envelope.fields_dict(fields) for _, fields in rows]


def test_they_exist_once_the_task_is_completed(shard: Shard) -> None:
    shard.put()
    [delivery] = shard.fetch()
    tasks = [
        FollowUp("note", local(1), NewTask(b'{"n":1}')),
        FollowUp("email", local(2, "h"), NewTask(b'{"n":2}', "high")),
        FollowUp("note", local(3), NewTask(b'{"n":3}', due=60_000)),
    ]
    assert shard.run(settling(shard, delivery, *tasks)) == [True]
    [first] = entries(shard, NOTE)
    assert (first["p"], first["i"]) == (b'{"n":1}', local(1).encode())
    assert [e["p"] for e in entries(shard, shard.t, "h")] == [b'{"n":2}']
    states = [shard.run(locate(type_keys("shop", 0, t.type), t.local)).state for t in tasks]
    assert states == ["ready", "ready", "scheduled"]
    assert (books(shard).ready, books(shard).scheduled) == (1, 1)
    assert shard.snapshot().counters["accepted"] == 2
    assert b"note" in shard.command("SMEMBERS", shard.s.types)


def test_the_same_call_again_adds_nothing(shard: Shard) -> None:
    shard.put()
    [delivery] = shard.fetch()
    call = settling(shard, delivery, FollowUp("note", local(1), NewTask(b"{}")))
    assert shard.run(call) == shard.run(call) == [True]
    assert books(shard).ready == 1


def test_a_zombie_adds_nothing(shard: Shard) -> None:
    shard.put()
    [zombie] = shard.fetch("gone")
    shard.age(zombie, 600_000)
    shard.reclaim_all()
    call = settling(shard, zombie, FollowUp("note", local(1), NewTask(b"{}")))
    assert shard.run(call) == [False]
    assert books(shard).ready == 0


@pytest.mark.parametrize(
    "outcome",
    [Retried(0, b"[]"), Died("attempts", b"[]"), Cancelled(), HandedBack()],
    ids=lambda o: type(o).__name__,
)
def test_no_other_end_adds_any(shard: Shard, outcome: Outcome) -> None:
    shard.put()
    [delivery] = shard.fetch()
    call = settling(shard, delivery, FollowUp("note", local(1), NewTask(b"{}")), outcome=outcome)
    assert shard.run(call) == [True]
    assert books(shard).ready == 0


def test_each_has_the_options_of_its_call(shard: Shard) -> None:
    shard.put()
    [delivery] = shard.fetch()
    at = shard.now() + 50_000
    tasks = [
        FollowUp(
            "note", local(1), NewTask(b"1", due=at, absolute=True, fields=(("x", "1000"), ("t", b"\xff")))
        ),
        FollowUp("note", local(2), NewTask(b"2", key=KEY)),
        FollowUp("note", local(3), NewTask(b"3", key=KEY)),
    ]
    assert shard.run(settling(shard, delivery, *tasks)) == [True]
    [(row, due)] = [shard.command("ZRANGE", NOTE.schedule, 0, -1, "WITHSCORES")]
    assert int(due) == at
    assert b"\xff" in row
    assert shard.command("ZRANGE", NOTE.expiring, 0, -1, "WITHSCORES") == [
        local(1).encode(),
        str(at + 1000).encode(),
    ]
    assert [e["p"] for e in entries(shard, NOTE)] == [b"2"]
    assert books(shard).counters["accepted"] == 2
    again = producer_calls.enqueue(NOTE, shard.s, "w", 1, [NewTask(b"2", key=KEY)])
    assert [answer.local for answer in shard.run(again)] == [local(2)]  # type: ignore[union-attr]


def test_it_runs_as_any_task(shard: Shard) -> None:
    shard.put()
    [delivery] = shard.fetch()
    shard.run(settling(shard, delivery, FollowUp("note", local(1), NewTask(b"{}"))))
    shard.run(worker_calls.groups(NOTE.streams))
    _, [(_, [entry])] = shard.run(worker_calls.fetch("c", 9, [worker_calls.Source(NOTE, "n", 9)]))
    held = envelope.decode("note", 0, Entry("n", entry.entry, entry.fields))
    assert held.local == local(1)
    assert shard.now() - 60_000 < held.enqueued_ms <= shard.now()
    done = Settlement(held.place, held.local, Completed(b"1", 60_000))
    assert shard.run(worker_calls.settle(NOTE, shard.s, "settler", 1, [done])) == [True]
    assert shard.run(locate(NOTE, local(1))).state == "completed"
    assert shard.command("HLEN", NOTE.index) == 0


def test_of_a_type_with_a_gate_it_is_a_dead_letter(shard: Shard) -> None:
    shard.run(producer_calls.register(NOTE, shard.s, "tests:note", {"rich": "1", "max_backlog": "9"}))
    shard.put()
    [delivery] = shard.fetch()
    shard.run(settling(shard, delivery, FollowUp("note", local(1), NewTask(b"{}"))))
    found = shard.run(locate(NOTE, local(1)))
    assert (found.state, found.where.reason) == ("dead", "gate")  # type: ignore[union-attr]
    assert (books(shard).ready, books(shard).dead) == (0, 1)


def test_into_a_full_stream_it_is_a_dead_letter(shard: Shard) -> None:
    shard.command("XADD", NOTE.normal, f"{2**64 - 1}-{2**64 - 1}", "p", "{}")
    shard.put()
    [delivery] = shard.fetch()
    shard.run(settling(shard, delivery, FollowUp("note", local(1), NewTask(b"{}"))))
    assert shard.run(locate(NOTE, local(1))).where.reason == "stream"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "kind", ["normal", "schedule", "index", "counters", "policy", "expiring", "dead", "letters", "groups"]
)
def test_a_wrong_key_of_its_type_changes_nothing(shard: Shard, kind: str) -> None:
    shard.command("SET", getattr(NOTE, kind), "x")
    shard.put()
    [delivery] = shard.fetch()
    with pytest.raises(ServerError, match="nothing was written"):
        shard.run(settling(shard, delivery, FollowUp("note", local(1), NewTask(b"{}"))))
    assert shard.running() == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda args: args[:-1], lambda args: (*args, "more"), lambda args: (*args[:-1], ""),
        lambda args: (*args[:-3], "x1", *args[-2:]), lambda args: (*args[:-4], 9, *args[-3:]),
        lambda args: (*args[:-2], "n/9", args[-1]), lambda args: (*args[:-2], "n#5", args[-1]),
    ],
)  # fmt: skip
def test_a_damaged_call_changes_nothing(shard: Shard, damage: Any) -> None:
    shard.put()
    [delivery] = shard.fetch()
    call = settling(shard, delivery, FollowUp("note", local(1), NewTask(b"{}")))
    args = damage(call.args)
    if args[-1] == "":  # an empty payload is none of its business
        return
    with pytest.raises(ServerError, match="MALFORMED"):
        shard.run(call._replace(args=args))
    assert shard.running() == 1
