"""New runs in the scripts: a task that is handed back with other arguments, as itself, once."""

from __future__ import annotations

import pytest

from streamq.calls import steps as step_calls
from streamq.calls import worker as worker_calls
from streamq.calls.call import Call
from streamq.errors import ServerError
from streamq.model.delivery import Delivery
from streamq.model.effect import Continued, Effect, Follow, FollowUp, Stepped
from streamq.model.outcome import HandedBack, Retried, Settlement
from streamq.model.task import NewTask
from tests.lua.shard import Shard

HOUR = 3_600_000
NEW = Continued(NewTask(b'{"n":2}'))


def settle(
    shard: Shard, held: Delivery, *effects: Effect, delay_ms: int = 0, sequence: int | None = None
) -> list[bool]:
    item = Settlement(held.place, held.local, HandedBack(True, delay_ms), held.claims != b"", effects)
    number = shard.sequence() if sequence is None else sequence
    return shard.run(worker_calls.settle(shard.t, shard.s, "settler", number, [item]))


def taken(shard: Shard, **options: str) -> Delivery:
    if options:
        shard.command("XADD", shard.t.normal, "*", "p", "{}", *[x for pair in options.items() for x in pair])
    else:
        shard.put()
    [held] = shard.fetch()
    return held


def test_it_is_the_same_task_with_nothing_of_the_run_before(shard: Shard) -> None:
    held = taken(shard)
    assert shard.settle([held], Retried(0, b'[{"attempt":1}]')) == [True]
    [held] = shard.fetch()
    call = step_calls.checkpoint(shard.t, "c", held.place, held.local, "one", b"1")
    shard.run(call)
    assert settle(shard, held, NEW, Stepped()) == [True]
    assert shard.state(held.local) == "ready"
    [new] = shard.fetch()
    assert (new.local, new.payload, new.attempt, new.lost, new.generation) == (
        held.local,
        b'{"n":2}',
        1,
        0,
        1,
    )
    assert (new.failures, new.claims) == (b"", b"")
    assert shard.command("EXISTS", shard.t.steps) == 0
    assert settle(shard, new, NEW) == [True]
    [third] = shard.fetch()
    assert third.generation == 2
    shard.snapshot()


def test_a_repeated_call_and_one_that_comes_too_late_start_no_run(shard: Shard) -> None:
    held = taken(shard)
    number = shard.sequence()
    for _ in range(2):
        assert settle(shard, held, NEW, sequence=number) == [True]
    assert settle(shard, held, Continued(NewTask(b'{"n":3}'))) == [False]
    [new] = shard.fetch()
    shard.age(new, 10**7)
    assert shard.reclaim_all() == 1
    assert settle(shard, new, Continued(NewTask(b'{"n":3}'))) == [False]
    [again] = shard.fetch()
    assert (again.payload, again.lost) == (b'{"n":2}', 1)
    shard.snapshot()


def test_it_has_the_options_of_its_call(shard: Shard) -> None:
    held = taken(shard, m='{"timeout":1}', V="3", x="9999999999999")
    shard.command("ZADD", shard.t.expiring, 9999999999999, held.local)
    fields = (("x", str(HOUR)), ("m", '{"timeout": 7}'), ("V", "4"))
    now = shard.now()
    assert settle(shard, held, Continued(NewTask(b"{}", fields=fields)), delay_ms=2 * HOUR) == [True]
    assert shard.state(held.local) == "scheduled"
    score = float(shard.command("ZSCORE", shard.t.expiring, held.local))
    assert now + 3 * HOUR <= score < now + 3 * HOUR + 60_000
    shard.command("ZADD", shard.t.schedule, "XX", 1, shard.command("ZRANGE", shard.t.schedule, 0, 0)[0])
    shard.command("HSET", shard.t.index, held.local, f"d1-{row_number(shard)}")
    shard.promote_until(1)
    [new] = shard.fetch()
    assert new.overrides is not None
    assert (new.overrides.timeout, new.version, new.expires_ms) == (7, 4, int(score))
    assert settle(shard, new, NEW) == [True]
    [plain] = shard.fetch()
    assert plain.overrides == new.overrides
    assert (plain.version, plain.expires_ms) == (1, None)
    assert shard.command("EXISTS", shard.t.expiring) == 0


def row_number(shard: Shard) -> int:
    return int(shard.command("ZRANGE", shard.t.schedule, 0, 0)[0][:12])


def test_its_blob_may_go_and_a_node_needs_nothing_of_others_any_more(shard: Shard) -> None:
    claims = b"\x94\xa1b\xa4blob\xa1f\xa51-2 3"  # b: blob, f: 1-2 3
    shard.command("ZADD", shard.s.blobs, 10**14, "blob")
    held = taken(shard, c=claims, y='1-2/3/{"n":1}')  # type: ignore[arg-type]
    assert settle(shard, held, NEW) == [True]
    assert float(shard.command("ZSCORE", shard.s.blobs, "blob")) < 10**13
    [new] = shard.fetch()
    assert (new.claims, new.node) == (claims[:1].replace(b"\x94", b"\x92") + claims[8:], b"1-2/3")
    assert shard.command("EXISTS", shard.s.inbox) == 0


def test_its_follow_ups_exist_unless_it_is_cancelled_meanwhile(shard: Shard) -> None:
    follow = Follow((FollowUp("email", f"n1-{1 << 62}", NewTask(b"{}")),))
    held = taken(shard)
    assert settle(shard, held, NEW, follow) == [True]
    assert shard.state(f"n1-{1 << 62}") == "ready"
    held, _ = sorted(shard.fetch(), key=lambda one: one.generation, reverse=True)
    shard.command("HSET", shard.t.cancels, held.local, "1")
    follow = Follow((FollowUp("email", f"n1-{(1 << 62) + 1}", NewTask(b"{}")),))
    assert settle(shard, held, NEW, follow) == [True]
    assert shard.state(held.local) == "cancelled"
    assert shard.state(f"n1-{(1 << 62) + 1}") == "unknown"
    shard.snapshot()


@pytest.mark.parametrize("told", ['{"again":1}', '{"again":"x"}', '{"again":"1 "}'])
def test_what_it_is_told_must_be_readable(shard: Shard, told: str) -> None:
    held = taken(shard)
    item = Settlement(held.place, held.local, HandedBack(True), False, (NEW,))
    call = worker_calls.settle(shard.t, shard.s, "settler", shard.sequence(), [item])
    args = [f"B{told}" if str(one).startswith("B{") else one for one in call.args]
    with pytest.raises(ServerError, match="MALFORMED effects"):
        shard.run(Call(call.script, call.keys, tuple(args), call.parse))
    assert shard.state(held.local) == "running"
