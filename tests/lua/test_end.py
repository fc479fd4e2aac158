"""The end of a task is one thing, whichever script ends it: its rows go and its claims are released."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamq import script_text, scripts
from streamq.calls import daemon as daemon_calls
from streamq.calls import producer as producer_calls
from streamq.keys import GROUP
from streamq.model.outcome import Cancelled, Died, Retried
from streamq.model.task import Accepted, NewTask, TaskId
from streamq.transport.sync_transport import SyncTransport
from tests.lua.shard import Shard
from tests.variant import changed

PACKED = b"\x92\xa4test\xa3one"
"""The claim {'test', 'one'}, as cmsgpack packs it."""


def released(_: str, text: str) -> str:
    """A kind of claim that notes what it was told in the index, where nothing else of the test stays."""
    return text.replace(
        "local release = {}\n",
        "local release = {}\nfunction release.test(what, id, how) redis.call('HSET', index, what, how) end\n",
    )


def claiming(shard: Shard, **fields: str) -> str:
    """A task with a claim, of which somebody waits for the end."""
    extra: Any = (("c", PACKED), *fields.items())
    [answer] = shard.enqueue(NewTask(b"{}", fields=extra, due=600_000 if "later" in fields else None))
    assert isinstance(answer, Accepted)
    shard.command("ZADD", shard.t.waiters, 2e12, answer.local)
    return answer.local


def cancelling(shard: Shard) -> str:
    local = claiming(shard)
    assert shard.run(producer_calls.cancel(shard.t, shard.s, TaskId.parse(f"email:0:{local}"))) == "cancelled"
    return "x"


def cancelling_what_is_scheduled(shard: Shard) -> str:
    local = claiming(shard, later="")
    assert shard.run(producer_calls.cancel(shard.t, shard.s, TaskId.parse(f"email:0:{local}"))) == "cancelled"
    return "x"


def expiring(shard: Shard) -> str:
    claiming(shard, x="0")
    assert shard.run(daemon_calls.expire(shard.t, 10)) == (1, 1)
    return "e"


def losing(shard: Shard) -> str:
    claiming(shard)
    shard.run(producer_calls.register(shard.t, shard.s, "tests:email", {"max_lost": "1"}))
    [delivery] = shard.fetch_raw()
    shard.command("XCLAIM", shard.t.normal, GROUP, "c", 0, delivery.entry, "IDLE", 600_000, "JUSTID")
    assert shard.reclaim().dead == 1
    return "d"


def dying(shard: Shard) -> str:
    claiming(shard)
    assert shard.settle(shard.fetch(), Died("attempts", b"[]")) == [True]
    return "d"


def retrying_what_is_cancelled(shard: Shard) -> str:
    local = claiming(shard)
    held = shard.fetch()
    shard.command("HSET", shard.t.cancels, local, "1")
    assert shard.settle(held, Retried(0, b"[]")) == [True]
    return "x"


ENDS: list[Callable[[Shard], str]] = [
    cancelling, cancelling_what_is_scheduled, expiring, losing, dying, retrying_what_is_cancelled,
]  # fmt: skip


@pytest.mark.parametrize("end", ENDS, ids=lambda one: one.__name__)
def test_what_a_task_claims_is_released_once_it_ends(
    end: Callable[[Shard], str], transport: SyncTransport
) -> None:
    with changed(released):
        shard = Shard(transport)
        how = end(shard)
        assert shard.command("HGETALL", shard.t.index) == [b"one", how.encode()]
        sizes = shard.sizes()
        assert (sizes.cancels, sizes.waiters, sizes.expiring) == (0, 0, 0)


@pytest.mark.parametrize("end", ENDS, ids=lambda one: one.__name__)
def test_a_claim_of_a_kind_that_is_not_known_ends_no_script(
    end: Callable[[Shard], str], transport: SyncTransport
) -> None:
    shard = Shard(transport)
    end(shard)
    assert shard.command("HLEN", shard.t.index) == 0


def test_a_task_without_a_claim_releases_none(transport: SyncTransport) -> None:
    with changed(released):
        shard = Shard(transport)
        shard.put()
        shard.settle(shard.fetch(), Cancelled())
        assert shard.command("HLEN", shard.t.index) == 0


def test_every_script_that_ends_a_task_ends_it_in_one_place() -> None:
    """No script of its own takes a task out of all these; nor does one write a dead letter."""
    for name in scripts.names():
        body = (script_text.FOLDER / f"{name}.lua").read_text()
        assert "'ZREM', waiters" not in body, name
        assert "'HSET', letters" not in body or name == "reseal", name  # that one replaces it in its place
