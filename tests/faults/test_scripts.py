"""Traps of Redis that the scripts must step over, one test each; the table is in README.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

import streamq
from streamq import envelope, scripts
from streamq.calls import daemon as daemon_calls
from streamq.calls import operator as operator_calls
from streamq.calls import producer as producer_calls
from streamq.calls import worker as worker_calls
from streamq.errors import ServerError, ServerFull
from streamq.keys import GROUP
from streamq.model.outcome import Completed, Died, HandedBack, Retried, Settlement
from streamq.model.reply import Moved
from streamq.model.task import NewTask, TaskId
from streamq.transport.faults import GroupMissing
from streamq.transport.sync_transport import SyncTransport
from tests.faults.proof import both, judged
from tests.letters import dead_page
from tests.lua.shard import Shard
from tests.variant import Change, changed, without

NONE = b"[]"


@pytest.fixture
def shard(transport: SyncTransport) -> Shard:
    return Shard(transport)


def guard(guarded: bool, *changes: Change) -> AbstractContextManager[None]:
    return nullcontext() if guarded else changed(*changes)


# -- consumer groups -----------------------------------------------------------------------------------


@both
def test_no_acknowledgement_is_no_success(shard: Shard, guarded: bool) -> None:
    """T03: XACK of a group that is gone answers 0 and raises nothing. Guard: settle believes a 1 only."""
    shard.put()
    shard.settle(shard.fetch(), Retried(0, NONE))
    [moved] = shard.fetch()
    shard.command("XGROUP", "DESTROY", shard.t.normal, GROUP)
    believes = without(
        "settle", "redis.call('XACK', item.stream, group, item.entry) == 1",
        "redis.call('XACK', item.stream, group, item.entry) >= 0",
    )  # fmt: skip
    with guard(guarded, believes), judged(guarded):
        assert shard.settle([moved], Completed(b"1", 60_000)) == [False]
        assert shard.state(moved.local) == "ready"


@both
def test_the_delivery_count_of_redis_is_no_attempt_number(shard: Shard, guarded: bool) -> None:
    """T06: XCLAIM, XAUTOCLAIM and reading the own history raise the counter. Guard: the envelope counts, and
    renewal is JUSTID."""
    shard.put()
    [held] = shard.fetch("me")
    place = (shard.t.normal, GROUP, "me", 0, held.place[1:])
    for _ in range(5):
        shard.run(worker_calls.renew(shard.t, "me", [(held.place, held.local)]))
    noisy = without("renew", "entry, 'JUSTID')", "entry)")
    with guard(guarded, noisy), judged(guarded):
        shard.run(worker_calls.renew(shard.t, "me", [(held.place, held.local)]))
        assert shard.command("XPENDING", shard.t.normal, GROUP, "-", "+", 1)[0][3] == 1
    shard.command("XCLAIM", *place)
    shard.settle([held], Retried(0, NONE))
    assert shard.fetch("me")[0].attempt == 2


@both
def test_only_one_of_two_holders_settles(shard: Shard, guarded: bool) -> None:
    """T16: XGROUP SETID 0 hands pending entries over once more. Guard: XACK's answer is the fence.

    The promise: settled at most once.
    """
    local = shard.put()
    [first] = shard.fetch("a")
    shard.command("XGROUP", "SETID", shard.t.normal, GROUP, "0")
    [second] = shard.fetch("b")
    assert first.place == second.place
    unfenced = without("settle", "if done_ == number then", "if true then")
    with guard(guarded, unfenced), judged(guarded):
        assert [shard.settle([second]), shard.settle([first])] == [[True], [False]]
        assert shard.snapshot().counters["completed"] == 1
        assert shard.state(local) == "unknown"


@both
def test_one_suspect_in_all_whatever_its_type(shard: Shard, guarded: bool) -> None:
    """A poison task must be alone in its process. Guard: fetch takes one suspect of all suspect streams."""
    other = Shard(shard.transport)
    other.t = worker_calls.Source(shard.t, "s", 1).keys.__class__("shop", 0, "other")
    shard.run(worker_calls.groups(other.t.streams))
    for t in (shard.t, other.t):
        shard.command("XADD", t.suspect, "*", "p", "{}", "l", "2")
    sources = [worker_calls.Source(shard.t, "s", 1), worker_calls.Source(other.t, "s", 1)]
    several = without("fetch", "suspect_taken = suspect_taken or suspected(last)")
    with guard(guarded, several), judged(guarded):
        _, found = shard.run(worker_calls.fetch("me", 10, sources))
        assert sum(len(entries) for _, entries in found) == 1


@both
def test_a_missing_group_of_one_stream_loses_nothing_of_another(shard: Shard, guarded: bool) -> None:
    """F02: one stream without its group fails a plain read of several. Guard: the walk keeps what it has."""
    shard.put(priority="high")
    shard.command("XGROUP", "DESTROY", shard.t.low, GROUP)
    eager = without("fetch", "if failed and #order == 0 then", "if failed then")
    with guard(guarded, eager), judged(guarded):
        try:
            got = shard.fetch(letters="hl")
        except GroupMissing:
            got = []
        assert len(got) == 1


def test_two_processes_never_have_one_name(url: str) -> None:
    """T17: two workers of one name steal from one another. Guard: a name of its own for each start."""
    app = streamq.StreamQ("shop", url)

    @app.task
    async def work() -> None: ...

    assert len({streamq.Worker(app).name for _ in range(50)}) == 50


def test_nothing_that_holds_live_tasks_ever_expires(shard: Shard) -> None:
    """F03, C06: a TTL would wipe a stream and its group, and a clock jump would end it at once. Guard: only
    what may be forgotten has one: writers, results, the log of the rate limit."""
    shard.run(
        producer_calls.register(shard.t, shard.s, "x", {"rate_limit": "100", "rate_period_ms": "60000"})
    )
    local = shard.put(delay_ms=60_000)
    for outcome in (Completed(b"1", 60_000), Retried(60_000, NONE), Died("attempts", NONE), HandedBack()):
        shard.put()
        shard.settle(shard.fetch(), outcome)
    shard.put()
    shard.fetch()
    shard.run(producer_calls.cancel(shard.t, shard.s, TaskId("email", 0, local)))
    shard.run(worker_calls.beat(shard.s, "me", b"{}"))
    mortal = {key for key in shard.command("KEYS", "*") if shard.command("PTTL", key) != -1}
    assert mortal
    assert all(re.search(rb":(writer:|results:|rate$)", key) for key in mortal)


# -- scripts -------------------------------------------------------------------------------------------


def test_no_script_does_what_destroys_a_queue() -> None:
    """T08, T09, T12, T13, T14, T11, R08: FORCE, LASTID, SETID, trimming, NOACK, ids of our own, EXPIRE of a
    stream, BLOCK, MULTI and functions have no place in a script or a call."""
    forbidden = re.compile(
        r"'(FORCE|LASTID|SETID|MAXLEN|MINID|XTRIM|NOACK|BLOCK|MULTI|KEYS|FLUSHALL|FUNCTION)'"
        r"|XADD', [^,]+, '[^*]"
    )
    for name in scripts.names():
        text = scripts.load(name).text
        if name == "emit":  # what watchers are told of a task, which is no task
            text = text.replace("'XADD', live, 'MAXLEN', '~', most, '*'", "'XADD', live, '*'")
        assert not forbidden.search(text), name
        assert all(call.startswith("XADD', ") for call in re.findall(r"XADD.{0,40}", text))
    for path in Path(streamq.__file__).parent.glob("calls/*.py"):
        assert not re.search(r'"(FORCE|LASTID|NOACK|XTRIM|MAXLEN|MULTI)"', path.read_text()), path


@pytest.fixture
def full(shard: Shard) -> Iterator[Shard]:
    """A shard with a task in each place, on a server without memory."""
    shard.enqueue(*[NewTask(b"{}") for _ in range(6)], NewTask(b"{}", due=1), NewTask(b"{}", due=60_000))
    deliveries = shard.fetch(budget=5)
    shard.settle(deliveries[:1], Died("attempts", NONE))
    shard.age(deliveries[1], 60_000)
    shard.command("XACK", shard.t.normal, GROUP, deliveries[2].place[1:])
    shard.command("CONFIG", "SET", "maxmemory", "1")
    yield shard
    shard.command("CONFIG", "SET", "maxmemory", "0")


@both
def test_a_full_server_drains(full: Shard, guarded: bool) -> None:
    """OOM: a script without allow-oom is refused as a whole, even to acknowledge. Guard: every script but
    enqueue has the flag."""

    def refused(_: str, text: str) -> str:
        return text.replace(" flags=allow-oom", "")

    with pytest.raises(ServerFull):
        full.enqueue(NewTask(b"{}"))
    with guard(guarded, refused), judged(guarded):
        try:
            full.promote_until(1)
            assert full.reclaim().returned == 1
            assert full.run(daemon_calls.repair(full.t, "n", "-", 100)) == ("", 1)
            assert full.run(operator_calls.requeue(full.t, 10, full.now() + 1))[0] == 1
            held = full.fetch(budget=10)
            assert full.run(worker_calls.renew(full.t, "c", [(d.place, d.local) for d in held])).fenced == ()
            assert all(full.settle(held[:1], Retried(60_000, NONE)))
            assert all(full.settle(held[1:]))
            full.run(worker_calls.beat(full.s, "c", b"{}"))
        except ServerFull as error:
            raise AssertionError from error
        assert full.snapshot().scheduled == 2


@both
def test_payloads_are_opaque(shard: Shard, guarded: bool) -> None:
    """E03: cjson makes `{}` of `[]` and floats of large numbers. Guard: no script looks into a payload."""
    payload = b'{"empty":[],"large":12345678901234567890,"n":1.0,"text":"\\u0000"}'
    shard.put(payload, delay_ms=1)
    curious = without(
        "promote", "    if fields[n] == name then found = fields[n + 1] end\n",
        "    if fields[n] == 'p' then fields[n + 1] = cjson.encode(cjson.decode(fields[n + 1])) end\n",
    )  # fmt: skip
    with guard(guarded, curious), judged(guarded):
        shard.promote_until(1)
        for outcome in (Retried(0, NONE), Retried(1, NONE), HandedBack(), Died("attempts", NONE)):
            [held] = shard.fetch()
            assert held.payload == payload
            shard.settle([held], outcome)
            if outcome == Retried(1, NONE):
                shard.promote_until(1)
        shard.run(operator_calls.requeue(shard.t, 10, shard.now() + 1))
        for _ in range(2):
            [held] = shard.fetch()
            assert held.payload == payload
            shard.age(held, 60_000)
            shard.reclaim(held.place[0])


@both
def test_an_entry_larger_than_lua_can_append_stops_nobody(shard: Shard, guarded: bool) -> None:
    """E04: unpack fails at some thousand values, and an error in a script that runs for all stops them all.
    Guard: such an entry becomes a dead letter, with everything that is in it."""
    fields = [part for n in range(4500) for part in (f"f{n}", "x")]
    shard.command("XADD", shard.t.normal, "*", "p", "{}", *fields)
    local = shard.put()
    for entry in shard.fetch_raw("gone"):
        shard.command("XCLAIM", shard.t.normal, GROUP, "gone", 0, entry.entry, "IDLE", 60_000, "JUSTID")
    unchecked = without("reclaim", "lost >= max_lost or #fields > 1000", "lost >= max_lost")
    with guard(guarded, unchecked), judged(guarded):
        try:
            reclaim = shard.reclaim()
        except ServerError as error:
            raise AssertionError from error
        assert (reclaim.returned, reclaim.dead) == (1, 1)
        assert shard.state(local) == "ready"
        [letter] = shard.run(dead_page(shard.t, 0, 10))
        assert letter.reason == "undecodable"
        assert len(letter.fields) >= 9002


def test_the_largest_batches_fit(shard: Shard) -> None:
    """E04: the bounds of every script are below what unpack can take."""
    from streamq.daemon.janitor import LIMIT
    from streamq.options.service import DaemonOptions
    from streamq.transport.writer import BATCH
    from streamq.worker.settler import BATCH as SETTLED

    shard.enqueue(*[NewTask(b"{}") for _ in range(BATCH)])
    held = shard.fetch(budget=SETTLED)
    assert all(shard.settle(held, Completed(b"1", 60_000)))
    held = shard.fetch(budget=DaemonOptions().batch)
    for one in held:
        shard.age(one, 60_000)
    assert shard.reclaim(limit=DaemonOptions().batch).returned == len(held)
    for _ in range(4):
        for answer in shard.enqueue(*[NewTask(b"{}") for _ in range(BATCH)]):
            task = TaskId("email", 0, answer.local)  # type: ignore[union-attr]
            shard.run(producer_calls.cancel(shard.t, shard.s, task))
    assert shard.run(daemon_calls.trim([shard.t], shard.s, -1000, 0, LIMIT * 10)) == LIMIT * 10


def test_an_error_in_the_middle_of_a_script_loses_nothing(shard: Shard) -> None:
    """E01: what a script wrote before an error stays. Here somebody overwrote the schedule, where the retry
    is to be stored. Guard: settle looks at every key before it acknowledges the delivery."""
    local = shard.put(b'{"a":1}')
    shard.command("SET", shard.t.schedule, "x")
    [held] = shard.fetch()
    with pytest.raises(ServerError, match="WRONGTYPE .* nothing was written"):
        shard.settle([held], Retried(60_000, NONE))
    shard.command("DEL", shard.t.schedule)
    assert shard.run(daemon_calls.repair(shard.t, "n", "-", 100)) == ("", 0)
    assert (held.local, shard.snapshot().running) == (local, 1)
    assert shard.settle([held], Retried(60_000, NONE)) == [True]
    assert shard.snapshot().scheduled == 1


# -- what others wrote ---------------------------------------------------------------------------------


@both
def test_a_foreign_entry_is_counted_once_however_often_it_is_requeued(shard: Shard, guarded: bool) -> None:
    """I5: it would be a dead letter again each time. Guard: what has no payload stays."""
    history = envelope.add_failure(b"", attempt=0, at_ms=1, worker="w", error="E", message="m", traceback="")
    shard.command("XADD", shard.t.normal, "*", "what", "ever")
    lenient = without("requeue", "good and field(letter[4], 'p') and", "good and")
    with guard(guarded, lenient), judged(guarded):
        for entries in (1, 0, 0):
            found = shard.fetch_raw()
            assert len(found) == entries
            for entry in found:
                item = Settlement(entry.place, entry.place, Died("foreign", history, started=False))
                shard.run(worker_calls.settle(shard.t, shard.s, "w", shard.sequence(), [item]))
            shard.snapshot()
            assert shard.run(operator_calls.requeue(shard.t, 10, shard.now() + 1)) == Moved(0, 1, 1)


@both
def test_a_stream_that_was_overwritten_does_not_hide_the_others(shard: Shard, guarded: bool) -> None:
    """A stray SET on one stream. Guard: fetch passes it over, and names it where it found nothing else."""
    shard.put(priority="low")
    shard.command("SET", shard.t.high, "x")
    strict = without("fetch", "string.find(reply.err, 'WRONGTYPE', 1, true)", "false")
    with guard(guarded, strict), judged(guarded):
        try:
            assert len(shard.fetch()) == 1
            with pytest.raises(
                ServerError, match=r"\{shop:0\}:email:high is no stream: somebody overwrote it"
            ):
                shard.fetch()
        except ServerError as error:
            raise AssertionError from error


@both
@pytest.mark.parametrize("lease", ["-1", "0", "nan", "1e400", "0.5"])
def test_a_lease_that_no_app_can_have_stored_counts_as_none(shard: Shard, lease: str, guarded: bool) -> None:
    """A lease of nothing would take every task from its living worker, one without end none from a dead
    one. Guard: whole() in reclaim.lua."""
    shard.run(producer_calls.register(shard.t, shard.s, "x", {"lease_ms": lease}))
    shard.put()
    [held] = shard.fetch()
    open_ = without(
        "reclaim",
        "if number and number >= least and number < 1e15 then return math.floor(number) end",
        "if number then return number end",
    )
    with guard(guarded, open_), judged(guarded):
        try:
            shard.age(held, 100)
            assert shard.reclaim().returned == 0
            shard.age(held, 20_000)
            assert shard.reclaim().returned == 1
        except ServerError as error:
            raise AssertionError from error
        assert shard.run(worker_calls.renew(shard.t, "c", [])).lease_ms == 10_000
