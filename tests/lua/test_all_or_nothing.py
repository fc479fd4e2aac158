"""Every script, every key of its call, every wrong kind of value: it does all of it, or nothing.

A script that fails in the middle is not undone. The whole keyspace is compared before and after.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamq import locks, scripts
from streamq.calls import audit as audit_calls
from streamq.calls import daemon as daemon_calls
from streamq.calls import flow_again
from streamq.calls import flows as flow_calls
from streamq.calls import lanes as lane_calls
from streamq.calls import listing as listing_calls
from streamq.calls import live as live_calls
from streamq.calls import operator as operator_calls
from streamq.calls import producer as producer_calls
from streamq.calls import rollup as rollup_calls
from streamq.calls import schedule as schedule_calls
from streamq.calls import signals as signal_calls
from streamq.calls import steps as step_calls
from streamq.calls import worker as worker_calls
from streamq.calls.call import Call
from streamq.calls.producer import ShardClosed
from streamq.errors import StreamQError
from streamq.keys import known_key, type_keys
from streamq.model.delivery import Delivery
from streamq.model.effect import Continued, Follow, FollowUp, Hold, NodeResult, Stepped, Suspend
from streamq.model.outcome import Cancelled, Completed, Died, Expired, HandedBack, Retried, Settlement
from streamq.model.reply import Note
from streamq.model.task import Accepted, IdempotencyKey, NewTask, TaskId
from streamq.options.schedule import Every, Schedule
from streamq.options.unique_plan import Plan
from streamq.schedules.definition import defined
from streamq.schedules.plan import Move
from streamq.schedules.state import State
from streamq.schedules.state import read as state_of
from streamq.transport.sync_transport import SyncTransport
from tests.lua.shard import Shard

NOTE = Note("action-1", b'{"by":"ada"}')
KINDS: dict[str, tuple[Any, ...]] = {
    "string": ("SET", "{}", "x"),
    "list": ("RPUSH", "{}", "x"),
    "set": ("SADD", "{}", "x"),
    "zset": ("ZADD", "{}", 1, "x"),
    "hash": ("HSET", "{}", "x", "y"),
    "stream": ("XADD", "{}", "*", "p", "x"),
}


def settling(shard: Shard, several: bool) -> Call[Any]:
    """Ends of every kind, of a delivery each; or plain completions only."""
    for priority in ("high", "normal", "low") if several else ("normal",):
        shard.enqueue(*[NewTask(b"{}", priority) for _ in range(3)])
    held = shard.fetch()
    outcomes: list[Any] = [Completed(b"1", 60_000)]
    if several:
        outcomes = [
            Completed(b"1", 60_000), Retried(0, b"[]"), Retried(60_000, b"[]"), Died("attempts", b"[]"),
            Cancelled(), Expired(), HandedBack(), Completed(b"2", 60_000), Completed(b"", 0),
        ]  # fmt: skip
    items = [
        Settlement(delivery.place, delivery.local, outcomes[n % len(outcomes)])
        for n, delivery in enumerate(held)
    ]
    return worker_calls.settle(shard.t, shard.s, "worker", 1, items)


def lost(shard: Shard) -> str:
    """A delivery whose worker is gone."""
    shard.put()
    [delivery] = shard.fetch("gone")
    shard.age(delivery, 600_000)
    return delivery.local


def dead(shard: Shard) -> str:
    shard.put(b"[]")
    [delivery] = shard.fetch()
    shard.settle([delivery], Died("attempts", b"[]"))
    return delivery.local


def scheduled(shard: Shard, delay_ms: int = 600_000) -> str:
    return shard.put(delay_ms=delay_ms)


def overdue(shard: Shard) -> None:
    scheduled(shard)
    [row] = shard.command("ZRANGE", shard.t.schedule, 0, -1)
    shard.command("ZADD", shard.t.schedule, 1, row)


def expired(shard: Shard) -> None:
    shard.enqueue(NewTask(b"{}", fields=(("x", "0"),)))


def fetching(shard: Shard) -> Call[Any]:
    return worker_calls.fetch("c", 5, [worker_calls.Source(shard.t, "n", 5)])


def new(shard: Shard, *tasks: NewTask, writer: str = "new") -> Call[Any]:
    return producer_calls.enqueue(shard.t, shard.s, writer, 1, tasks)


def requeueing(shard: Shard, build: Any) -> Call[Any]:
    local = dead(shard)
    return build(shard.t, 10, shard.now() + 1, [local], note=NOTE)  # type: ignore[no-any-return]


def resealing(shard: Shard) -> Call[Any]:
    return operator_calls.reseal(shard.t, dead(shard), (b"[]", b"[1]"), (b"[]", b"[2]"), NOTE)


def limbo(shard: Shard) -> None:
    lost(shard)
    shard.command("XGROUP", "DELCONSUMER", shard.t.normal, "workers", "gone")


def held(shard: Shard) -> str:
    """The place of the first entry."""
    return "n" + str(shard.command("XRANGE", shard.t.normal, "-", "+")[0][0].decode())


def keyed(name: str) -> IdempotencyKey:
    return IdempotencyKey(name, b"0" * 16, 60_000)


def locked(
    key: str, conflict: str, free: Any = "done", due: int | None = None, *, supersede: bool = False
) -> NewTask:
    plan = Plan(key=key, conflict=conflict, free=free, supersede=supersede)
    return locks.joined("email", NewTask(b"{}", due=due, fields=(("x", "60000"),)), plan, b"{}")[0]


THROTTLED = locks.joined(
    "email", NewTask(b"{}", fields=(("x", "60000"),)), Plan(key="t", throttle_ms=60_000, trailing=True), b"{}"
)[0]
LOCKED = (
    locked("a", "after"), locked("a", "after"), locked("b", "return", due=60_000), locked("c", "return"),
    locked("d", "replace"), THROTTLED,
)  # fmt: skip
CONFLICTS = (
    locked("a", "replace", supersede=True), locked("b", "replace"), locked("c", "reschedule", due=60_000),
    locked("d", "replace"), locked("e", "raise"), THROTTLED, THROTTLED,
)  # fmt: skip


def going_on(shard: Shard) -> Call[Any]:
    """A task that goes on as a new run, at once, and one later; the first has a memo and a blob."""
    first, second = remembering(shard)
    again = Continued(NewTask(b"{}", fields=(("x", "1000"),)))
    items = [
        Settlement(first.place, first.local, HandedBack(True), effects=(again, Stepped())),
        Settlement(second.place, second.local, HandedBack(True, 60_000), effects=(again,)),
    ]
    return worker_calls.settle(shard.t, shard.s, "worker", 1, items)


def settling_locked(shard: Shard) -> Call[Any]:
    shard.enqueue(*LOCKED)
    held = shard.fetch()
    outcomes: list[Any] = [Completed(b"1", 60_000), Died("attempts", b"[]"), Retried(0, b"[]")]
    items = [Settlement(one.place, one.local, outcomes[n % 3], rich=True) for n, one in enumerate(held)]
    return worker_calls.settle(shard.t, shard.s, "worker", 1, items)


MIXED = (NewTask(b"1", "high"), NewTask(b"2"), NewTask(b"3", "low"))
FULL = (
    NewTask(b"1", "high", 60_000), NewTask(b"2", fields=(("x", "60000"),)), NewTask(b"3", "low"),
    NewTask(b"4", key=keyed("one")), NewTask(b"5", key=keyed("two")),
)  # fmt: skip
LIMITS = {"rate_limit": "100", "rate_period_ms": "1000", "max_backlog": "100"}


def limited(shard: Shard) -> Call[Any]:
    shard.run(producer_calls.register(shard.t, shard.s, "tests:email", LIMITS))
    return new(shard, *FULL)


NIGHTLY = defined(Schedule(Every("1d")), "email", "n", (("x", "60000"),), b"{}")
NEW = State(revision=1, next=5)


def scheduling(shard: Shard) -> State:
    """A schedule that is due."""
    state = State(revision=1, next=5, left=3)
    stored = NIGHTLY.stored()
    assert shard.run(schedule_calls.write(shard.s, "nightly", 0, state.stored(), 5, stored, b"{}"))
    return state


def again(shard: Shard) -> State:
    """The same, when its first run has been made."""
    found = state_of(shard.run(schedule_calls.read(shard.s, "nightly")).state)
    assert found is not None
    return found


def ticking(shard: Shard, found: State) -> Call[Any]:
    due = found.next or 0
    move = Move(due, 2, due, due + 5, due + 5)
    return schedule_calls.tick(
        shard.t, shard.s, "tick", "nightly", found.revision, str(due), move, "queue_one", NIGHTLY
    )


Make = Callable[[Shard], "Call[Any]"]


def after(prepare: Callable[[Shard], Any], make: Make) -> Make:
    def both(shard: Shard) -> Call[Any]:
        prepare(shard)
        return make(shard)

    return both


SCRIPTS: dict[str, Make] = {
    "enqueue one": lambda s: new(s, NewTask(b"{}")),
    "enqueue one of a writer that is known": after(
        lambda s: s.run(new(s, NewTask(b"{}"))),
        lambda s: producer_calls.enqueue(s.t, s.s, "new", 2, [NewTask(b"{}"), NewTask(b"{}")]),
    ),
    "enqueue of several priorities": lambda s: new(s, *MIXED),
    "enqueue of all kinds": lambda s: new(s, *FULL),
    "enqueue with limits": limited,
    "enqueue_rich of tasks with locks": lambda s: new(s, *LOCKED),
    "enqueue_rich where the locks are held": after(
        lambda s: (s.run(new(s, *LOCKED)), s.fetch("w", 1), s.run(new(s, *LOCKED, writer="other"))),
        lambda s: new(s, *CONFLICTS, writer="third"),
    ),
    "settle_rich of tasks with locks": settling_locked,
    "settle_rich of new runs": going_on,
    "settle plainly": lambda s: settling(s, several=False),
    "settle all kinds": lambda s: settling(s, several=True),
    "fetch": after(lambda s: s.put(), fetching),
    "muster": after(lambda s: s.put(), lambda s: worker_calls.muster(s.s, s.t.streams)),
    "watch": lambda s: worker_calls.watch(s.s, found=False, force=False),
    "renew": after(
        lambda s: (s.put(), s.fetch("w")),
        lambda s: worker_calls.renew(s.t, "w", [(held(s), "x")]),
    ),
    "reclaim": after(lost, lambda s: daemon_calls.reclaim(s.t, s.s, "n", "0-0", 10, 0)),
    "promote": after(overdue, lambda s: daemon_calls.promote(s.t, 10)),
    "expire": after(expired, lambda s: daemon_calls.expire(s.t, 10)),
    "cancel": lambda s: producer_calls.cancel(s.t, s.s, _task(s, s.put()), NOTE),
    "cancel what is scheduled": lambda s: producer_calls.cancel(s.t, s.s, _task(s, scheduled(s)), NOTE),
    "cancel the holder of a lock": after(
        lambda s: s.run(new(s, *LOCKED, writer="locks")),
        lambda s: producer_calls.cancel(
            s.t, s.s, _task(s, s.command("HVALS", s.t.unique)[0].decode()), NOTE
        ),
    ),
    "unlock": after(
        lambda s: s.run(new(s, *LOCKED, writer="locks")),
        lambda s: operator_calls.unlock(
            s.t, s.command("HKEYS", s.t.unique)[0].hex(), force=True, note=NOTE
        ),
    ),
    "reseal": resealing,
    "requeue": lambda s: requeueing(s, operator_calls.requeue),
    "purge": lambda s: requeueing(s, operator_calls.purge),
    "run_now": lambda s: operator_calls.run_now(s.t, scheduled(s), NOTE),
    "repair": after(limbo, lambda s: daemon_calls.repair(s.t, "n", "-", 10)),
    "restamp": after(lost, lambda s: daemon_calls.restamp(s.t.normal, "-", 10)),
    "groups": lambda s: worker_calls.groups(type_keys("shop", 0, "other").streams),
    "register": lambda s: producer_calls.register(s.t, s.s, "tests:other", {"lease_ms": "500"}),
    "beat": lambda s: worker_calls.beat(s.s, "w", b"{}"),
    "sample": lambda s: rollup_calls.sample([s.t, type_keys("shop", 0, "other")], s.now()),
    "wait": lambda s: producer_calls.wait(s.t, s.put(), 60_000),
    "announce": lambda s: producer_calls.announce("shop", 2),
    "close_shard": lambda s: daemon_calls.close_shard(s.s, [s.t], 1),
    "leave": lambda s: worker_calls.leave(s.s, "w", s.t.streams),
    "pause": lambda s: operator_calls.pause(s.s, "email", b"{}", NOTE),
    "forget": lambda s: operator_calls.forget(s.t, [], [], drop=False, note=NOTE),
    "drain": lambda s: operator_calls.drain(s.s, "w", NOTE),
    "dismiss": lambda s: operator_calls.dismiss(s.s, "w", 10**15, NOTE),
    "write_schedule": after(
        scheduling, lambda s: schedule_calls.write(s.s, "new", 0, NEW.stored(), 5, b"{}", b"[]", NOTE)
    ),
    "write_schedule that removes": after(
        scheduling, lambda s: schedule_calls.write(s.s, "nightly", 1, b"", None, note=NOTE)
    ),
    "tick": lambda s: ticking(s, scheduling(s)),
    "tick with limits": after(
        lambda s: s.run(producer_calls.register(s.t, s.s, "tests:email", LIMITS)),
        lambda s: ticking(s, scheduling(s)),
    ),
    "tick beside a run": after(lambda s: s.run(ticking(s, scheduling(s))), lambda s: ticking(s, again(s))),
    "log_action": lambda s: schedule_calls.log_action(s.s, 1, NOTE),
}  # fmt: skip


FLOW = "1-000000000001"


def flow_of(shard: Shard, *, started: bool = True) -> str:
    """A flow of two nodes, the second of which waits for the first."""
    record, items = flow_declared()
    shard.run(flow_calls.build_part(shard.s, FLOW, "0", record, items, running=False))
    if started:
        shard.run(flow_calls.commit(shard.s, FLOW, "key", "", 2))
    return FLOW


def flow_declared() -> tuple[dict[str, Any], list[flow_calls.Item]]:
    record: dict[str, Any] = {
        "name": "f", "static": 2, "todo": "0", "awaits": "\0go\0", "d0": "1",
        "n0": b'{"m":"a","t":"email","l":"n"}',
        "n1": b'{"m":"b","t":"email","l":"n","a":[0]}',
    }  # fmt: skip
    return record, [flow_calls.Item(n, ("n", b"{}", "", "", "")) for n in range(2)]


def flow_starting(shard: Shard) -> Call[Any]:
    about = flow_calls.Beginning("key", "", 2, "")
    return flow_calls.start(shard.t, shard.s, FLOW, "0", about, *flow_declared())


def flow_ready(shard: Shard) -> str:
    flow_of(shard)
    shard.run(flow_calls.advance(shard.s, FLOW, ()))
    return FLOW


def flow_failed(shard: Shard) -> str:
    """The same, when it is over."""
    flow_of(shard)
    shard.command("HSET", shard.s.flow(FLOW), "state", "failed", "generation", 1)
    shard.command("SET", shard.s.flow_states(FLOW), "ds")
    return FLOW


def held_rules(shard: Shard) -> None:
    """Rules of lanes and unique keys that are held while a process lives that cannot obey them."""
    rules = {"gate": "{}", "lane": "n", "rich": "1", "unique": Plan(("n",)).stored()}
    shard.run(producer_calls.register(shard.t, shard.s, "tests:email", rules, {"lanes", "unique"}))


def flow_ended(shard: Shard) -> str:
    """The same, when its first node has ended."""
    flow_ready(shard)
    shard.run(flow_calls.release(shard.t, shard.s, FLOW, "0", [0]))
    [delivery] = shard.fetch()
    effects = (NodeResult(FLOW, 0),)
    settlement = Settlement(
        delivery.place, delivery.local, Completed(b"1", 60_000), rich=True, effects=effects
    )
    assert shard.run(worker_calls.settle(shard.t, shard.s, "worker", 1, [settlement])) == [True]
    return FLOW


FLOWS: dict[str, Make] = {
    "flow_build": after(
        lambda s: flow_of(s, started=False),
        lambda s: flow_calls.build_part(
            s.s, FLOW, "0", {"a": 1}, [flow_calls.Item(7, ("x",))], running=False
        ),
    ),
    "flow_commit": after(
        lambda s: flow_of(s, started=False), lambda s: flow_calls.commit(s.s, FLOW, "key", "", 2)
    ),
    "flow_start": flow_starting,
    "flow_advance": after(flow_ended, lambda s: flow_calls.advance(s.s, FLOW, ["0 c"])),
    "flow_release": after(flow_ready, lambda s: flow_calls.release(s.t, s.s, FLOW, "0", [0])),
    "enforce": after(held_rules, lambda s: producer_calls.enforce(s.t, s.s, ())),
    "flow_step": after(flow_ended, lambda s: flow_calls.step(s.t, s.s, FLOW, "0", ["0 c"])),
    "flow_grow": after(flow_ready, lambda s: flow_calls.grow(s.s, FLOW, 0, 2, 3)),
    "flow_mark": after(flow_of, lambda s: flow_calls.mark(s.s, FLOW, "cancel", note=NOTE)),
    "flow_again": after(
        flow_failed,
        lambda s: flow_again.again(s.s, FLOW, flow_again.Plan(1, "nn", "", "", "", "", 0), NOTE),
    ),
    "flow_signal": after(flow_of, lambda s: flow_calls.signal(s.s, FLOW, "go", b"1", "0" * 16, NOTE)),
    "flow_keep": after(flow_of, lambda s: flow_calls.keep(s.s, FLOW, 5, "running")),
    "flow_renew": after(flow_of, lambda s: flow_calls.renew(s.s, FLOW, [s.s.flow_states(FLOW)], 60_000)),
}
SCRIPTS.update(FLOWS)


GATED = {
    "gate": "3;1000000;3;1;;;2;1000000;2;1",
    "lane": "to",
    "window": "4",
    "max_backlog": "999999999999999",
}


def laned(shard: Shard, number: int = 4, **fields: str) -> list[str]:
    """Tasks of one lane, of which two are ready."""
    shard.run(producer_calls.register(shard.t, shard.s, "tests:email", GATED))
    more = tuple(fields.items())
    answers = shard.enqueue(*[NewTask(b"{}", joins='{"lane":"a"}', fields=more) for _ in range(number)])
    return [answer.local for answer in answers if isinstance(answer, Accepted)]


def settling_lanes(shard: Shard) -> Call[Any]:
    laned(shard)
    held = shard.fetch()
    outcomes: list[Any] = [Completed(b"1", 60_000), HandedBack(started=True)]
    items = [
        Settlement(one.place, one.local, outcome, rich=True, effects=(Hold(1),) * n)
        for n, (one, outcome) in enumerate(zip(held, outcomes, strict=True))
    ]
    return worker_calls.settle(shard.t, shard.s, "worker", 1, items)


def entering(shard: Shard) -> Call[Any]:
    laned(shard)
    new_ = [NewTask(b"{}", joins='{"lane":"a"}'), NewTask(b"{}", joins='{"lane":"b","cost":2}')]
    return producer_calls.enqueue(shard.t, shard.s, "new", 1, new_)


LANES: dict[str, Make] = {
    "enqueue into lanes": entering,
    "settle in lanes": settling_lanes,
    "promote into lanes": after(laned, lambda s: daemon_calls.promote(s.t, 10, rich=True)),
    "cancel what is parked": lambda s: producer_calls.cancel(s.t, s.s, _task(s, laned(s)[-1]), NOTE),
    "cancel what holds a slot": lambda s: producer_calls.cancel(s.t, s.s, _task(s, laned(s)[0]), NOTE),
    "expire what is parked": after(lambda s: laned(s, x="0"), lambda s: daemon_calls.expire(s.t, 10)),
    "run what is parked now": lambda s: operator_calls.run_now(s.t, laned(s)[-1], NOTE, force=True),
    "limit": after(laned, lambda s: lane_calls.limit(s.t, "a", "9", NOTE)),
    "open_lane": after(laned, lambda s: lane_calls.open_lane(s.t, "a", NOTE)),
    "purge_lane": after(laned, lambda s: lane_calls.purge_lane(s.t, "a", 10, NOTE)),
    "set_window": after(laned, lambda s: lane_calls.set_window(s.t, 9)),
    "recount": after(laned, lambda s: lane_calls.recount(s.t)),
    "repair_lane": after(laned, lambda s: audit_calls.repair_lane(s.t, "a")),
}
SCRIPTS.update(LANES)


def settling_with_follow_ups(shard: Shard) -> Call[Any]:
    shard.put()
    [held] = shard.fetch()
    number = f"-{1 << 62}"
    tasks = (
        FollowUp("note", "n1" + number, NewTask(b"1", fields=(("x", "60000"),), key=keyed("one"))),
        FollowUp("note", "n2" + number, NewTask(b"2", due=60_000)),
        FollowUp("email", "n3" + number, NewTask(b"3")),
    )
    items = [Settlement(held.place, held.local, Completed(b"1", 60_000), effects=(Follow(tasks),))]
    return worker_calls.settle(shard.t, shard.s, "worker", 1, items)


def remembering(shard: Shard) -> tuple[Delivery, ...]:
    """Tasks with memos, held by a worker."""
    shard.put()
    shard.put()
    held = shard.fetch("w")
    for one in held:
        shard.run(step_calls.checkpoint(shard.t, "w", one.place, one.local, "one", b"1"))
    return tuple(held)


def settling_with_memos(shard: Shard) -> Call[Any]:
    outcomes: list[Any] = [Completed(b"1", 60_000), Retried(0, b"[]")]
    items = [
        Settlement(one.place, one.local, outcome, effects=(Stepped(),))
        for one, outcome in zip(remembering(shard), outcomes, strict=True)
    ]
    return worker_calls.settle(shard.t, shard.s, "worker", 1, items)


def storing(shard: Shard) -> Call[Any]:
    [held, _] = remembering(shard)
    return step_calls.checkpoint(shard.t, "w", held.place, held.local, "two", b"2")


def telling(shard: Shard) -> Call[Any]:
    [held, _] = remembering(shard)
    return live_calls.emit(shard.t, "w", held.place, held.local, 1, [("value", b"1"), ("progress", b"{}")])


def suspending(shard: Shard, *, signalled: bool = False) -> Call[Any]:
    """A task that waits for a signal, which may come before it is suspended."""
    held = waiting(shard)
    if signalled:
        shard.run(giving(shard, held.local))
    items = [
        Settlement(
            held.place, held.local, HandedBack(True, 60_000), effects=(Stepped(), Suspend("wait yes 1"))
        )
    ]
    return worker_calls.settle(shard.t, shard.s, "worker", 1, items)


def waiting(shard: Shard) -> Delivery:
    [held, _] = remembering(shard)
    shard.run(taking(shard, held))
    return held


def taking(shard: Shard, held: Delivery) -> Call[Any]:
    return signal_calls.take(shard.t, "w", held.place, held.local, "wait yes 1", "yes", 60_000)


def giving(shard: Shard, local: str) -> Call[Any]:
    return signal_calls.signal(shard.t, local, "yes", b"1", "0" * 16, NOTE)


def taking_what_came(shard: Shard) -> Call[Any]:
    [held, _] = remembering(shard)
    shard.run(giving(shard, held.local))
    return taking(shard, held)


def waking(shard: Shard) -> Call[Any]:
    call = suspending(shard)
    shard.run(call)
    [local] = [one.local for one in shard.run(listing_calls.page_schedule(shard.t, "", 10)).rows]
    return giving(shard, local)


def reclaiming_memos(shard: Shard) -> Call[Any]:
    for held in remembering(shard):
        shard.age(held, 600_000)
    return daemon_calls.reclaim(shard.t, shard.s, "n", "0-0", 10, 0)


SCRIPTS.update(
    {
        "settle with memos": settling_with_memos,
        "checkpoint": storing,
        "suspend for a signal": suspending,
        "suspend for a signal that has come": lambda s: suspending(s, signalled=True),
        "take_signal": taking_what_came,
        "signal": lambda s: giving(s, s.put()),
        "signal who waits": lambda s: giving(s, waiting(s).local),
        "signal who is suspended": waking,
        "emit": telling,
        "reclaim with memos": reclaiming_memos,
        "repair_steps": after(
            lambda s: s.command("HSET", s.t.steps, "n1-1", "1\0one", "n1-1\0one", "1"),
            lambda s: step_calls.repair_steps(s.t, "n1-1"),
        ),
    }
)
FOLLOWED: dict[str, Make] = {"settle with follow-ups": settling_with_follow_ups}
"""Calls with keys that no header names: those of other task types."""
ALL = {**SCRIPTS, **FOLLOWED}


def _task(shard: Shard, local: str) -> Any:
    return TaskId.parse(f"email:0:{local}")


def dump(shard: Shard) -> dict[bytes, Any]:
    return {key: shard.command("DUMP", key) for key in shard.command("KEYS", "*")}


def harm(shard: Shard, key: str, kind: str) -> None:
    shard.command("DEL", key)
    shard.command(*(key if word == "{}" else word for word in KINDS[kind]))


@pytest.mark.parametrize("name", ALL)
def test_a_key_of_the_wrong_kind_leaves_all_or_nothing(
    name: str, transport: SyncTransport, request: pytest.FixtureRequest
) -> None:
    """On Valkey each key is of each wrong kind in turn; on Redis, which the same scripts meet, of one."""
    half_done: list[str] = []
    refused = went_through = 0
    number = len(ALL[name](Shard(transport)).keys)
    kinds, each = list(KINDS), "valkey" in request.node.callspec.id
    for n in range(number):
        for kind in kinds if each else [kinds[n % len(kinds)], kinds[(n + 1) % len(kinds)]]:
            transport.run(Call(None, (), ("FLUSHALL",), lambda r: r))
            shard = Shard(transport)
            call = ALL[name](shard)
            key = call.keys[n]
            if shard.command("TYPE", key) == kind.encode():
                continue
            harm(shard, key, kind)
            before = dump(shard)
            try:
                shard.run(call)
                went_through += 1
            except (StreamQError, ShardClosed):
                refused += 1
                if dump(shard) != before:
                    half_done.append(f"{key} as {kind}")
    print(name, "refused", refused, "went through", went_through)
    assert half_done == []


STREAMS = {"high", "normal", "low", "suspect"}
KINDS_OF = {
    "stream": STREAMS, "streams": STREAMS, "keys": {"key"}, "beats": {"workers"}, "details": {"heartbeats"},
    "flow_pages": {"flow_states", "flow_items", "flow_results"},
}  # fmt: skip
"""What kinds of keys the names stand for that are none of a kind."""


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_key_of_a_call_is_what_its_header_says(name: str, transport: SyncTransport) -> None:
    """Two keys that changed places would be noticed."""
    call = SCRIPTS[name](Shard(transport))
    assert call.script is not None
    *named, last = call.script.keys
    repeated = last.strip("().").split() if last.endswith("...") else [last]
    named += repeated * (len(call.keys) // len(repeated))
    for one, key in zip(named, call.keys, strict=False):
        known = known_key("shop", key)
        assert one == "apps" if known is None else known.kind in KINDS_OF.get(one, {one}), key


@pytest.mark.parametrize("name", ["ready", "bell"])
@pytest.mark.parametrize("kind", ["string", "hash", "list"])
def test_a_bell_that_is_none_keeps_no_task_from_its_stream(shard: Shard, name: str, kind: str) -> None:
    """It is found by the next muster: promoted, taken back, run now and enqueued as ever."""
    shard.command("SET", shard.s.doorbell, "1")
    harm(shard, getattr(shard.s, name), kind)
    shard.put()
    [delivery] = shard.fetch("gone")
    shard.age(delivery, 60_000)
    assert shard.reclaim().returned == 1
    later = shard.put(delay_ms=60_000)
    assert shard.run(operator_calls.run_now(shard.t, later))
    shard.put(delay_ms=1)
    shard.promote_until(1)
    [*_, taken] = shard.fetch()
    shard.settle([taken], Retried(0, b"[]"))
    assert shard.snapshot().scheduled == 0


COUNTING = (
    "settle plainly", "settle all kinds", "enqueue one", "enqueue of all kinds", "reclaim", "promote",
    "expire", "cancel", "requeue", "purge", "repair", "tick",
)  # fmt: skip
COUNTERS = ("accepted", "completed", "started", "sequence", "dead", "reclaimed", "expired", "cancelled")


@pytest.mark.parametrize("name", COUNTING)
def test_a_counter_that_is_no_number_leaves_all_or_nothing(name: str, transport: SyncTransport) -> None:
    half_done: list[str] = []
    for field in COUNTERS:
        for value in ("", "x", "1.5", "1e400", "9223372036854775807"):
            transport.run(Call(None, (), ("FLUSHALL",), lambda r: r))
            shard = Shard(transport)
            call = SCRIPTS[name](shard)
            shard.command("HSET", shard.t.counters, field, value)
            before = dump(shard)
            try:
                shard.run(call)
            except StreamQError:
                if dump(shard) != before:
                    half_done.append(f"{field}={value}")
    assert half_done == []


@pytest.mark.parametrize(
    "malformed",
    [
        (b"q", b"{}"), (b"n",), (b"n+", b"{}"), (b"n/1", b"{}", b"x"), (b"n/1", b"{}", b"x", b"soon"),
        (b"n#5", b"{}"), (b"n+9999999999999999", b"{}"), (b"", b""),
    ],
)  # fmt: skip
def test_a_malformed_task_leaves_nothing_of_its_batch(shard: Shard, malformed: tuple[bytes, ...]) -> None:
    """Not even its type's name, where it is a writer's first call."""
    shard.command("DEL", shard.s.types)
    call = new(shard, NewTask(b"{}"), NewTask(b"{}", due=5), NewTask(b"{}", key=keyed("one")))
    before = dump(shard)
    with pytest.raises(StreamQError):
        shard.run(call._replace(args=(*call.args, *malformed)))
    assert dump(shard) == before


@pytest.mark.parametrize("window_ms", [0, 10**15, 10**30])
def test_a_key_without_a_lifetime_that_redis_takes_leaves_nothing(shard: Shard, window_ms: int) -> None:
    before = dump(shard)
    with pytest.raises(StreamQError, match="nothing was written"):
        shard.run(new(shard, NewTask(b"{}"), NewTask(b"{}", key=IdempotencyKey("k", b"0" * 16, window_ms))))
    assert dump(shard) == before


@pytest.mark.parametrize(("number", "value"), [(1, b"x"), (1, b""), (2, b"0"), (2, b"soon"), (2, b"9" * 16)])
@pytest.mark.parametrize("due", [None, 60_000])
def test_a_call_without_a_number_or_a_lifetime_leaves_nothing(
    shard: Shard, number: int, value: bytes, due: int | None
) -> None:
    call, before = new(shard, NewTask(b"{}", due=due)), dump(shard)
    with pytest.raises(StreamQError, match="MALFORMED call; nothing was written"):
        shard.run(call._replace(args=(*call.args[:number], value, *call.args[number + 1 :])))
    assert dump(shard) == before


@pytest.mark.parametrize("number", ["-5", "1" + "0" * 15])
def test_a_sequence_that_no_row_can_begin_with_is_refused(shard: Shard, number: str) -> None:
    shard.put()
    [delivery] = shard.fetch()
    shard.command("HSET", shard.t.counters, "sequence", number)
    before = dump(shard)
    with pytest.raises(StreamQError, match="no number; nothing was written"):
        shard.run(new(shard, NewTask(b"{}", due=60_000)))
    with pytest.raises(StreamQError, match="no number; nothing was written"):
        shard.settle([delivery], Retried(60_000, b"[]"))
    assert dump(shard) == before


@pytest.mark.parametrize("record", [b"", b"x", b"0" * 16, b"\xff" * 40])
def test_a_key_record_that_cannot_be_read_breaks_no_batch(shard: Shard, record: bytes) -> None:
    shard.command("SET", shard.s.key("one"), record)
    shard.run(new(shard, NewTask(b"{}"), NewTask(b"{}", key=keyed("one"))))
    assert shard.snapshot().ready == 2


LIMITS_OF_NOBODY: list[dict[str, str]] = [
    {"rate_limit": "x"}, {"rate_limit": "5"}, {"rate_limit": "0", "rate_period_ms": "1"},
    {"max_backlog": "x"},
    {"rate_limit": "1e400", "rate_period_ms": "-1"},
]  # fmt: skip


@pytest.mark.parametrize("limits", LIMITS_OF_NOBODY)
def test_limits_that_no_app_can_have_written_count_as_none(
    transport: SyncTransport, limits: dict[str, str]
) -> None:
    shard = Shard(transport, limits)
    shard.enqueue(NewTask(b"{}"), NewTask(b"{}", due=60_000))
    assert (shard.snapshot().ready, shard.snapshot().scheduled) == (1, 1)


def test_every_script_that_writes_is_tried() -> None:
    tried = {name.split(" ")[0] for name in SCRIPTS}
    tried |= {f"{name}_rich" for name in tried}  # the same body; what a twin adds is tried with its feature
    writing = {n for n in scripts.names() if "no-writes" not in scripts.load(n).text.partition("\n")[0]}
    one_write = {
        "depart", "listen", "lower_known", "open_shard", "tally", "trim", "sweep", "resubmit",
        "repair_books", "repair_claim", "repair_counters", "repair_dead", "repair_lifetime", "repair_lock",
        "repair_pending", "repair_place", "repair_row", "repair_scores", "repair_type",
    }  # fmt: skip
    assert writing - tried - one_write == set()
