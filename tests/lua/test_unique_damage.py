"""Damaged rows of tasks with unique keys: one costs that row, and stops no script halfway."""

from __future__ import annotations

from typing import Final

import pytest

from streamq.errors import ServerError
from streamq.model.task import Duplicate
from tests.lua.shard import Shard
from tests.lua.test_unique import HOUR, call, holder, only, put

DAMAGE: Final = """
local row = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
local head = string.match(row[1], '^%d+%a')
local fields = cmsgpack.unpack(string.sub(row[1], #head + 1))
fields[2] = {1}
redis.call('ZREM', KEYS[1], row[1])
return redis.call('ZADD', KEYS[1], row[2], head .. cmsgpack.pack(fields))
"""


def damage(shard: Shard) -> None:
    """Give the last row of the schedule a payload that is no text."""
    shard.command("EVAL", DAMAGE, 1, shard.t.schedule)


def test_a_damaged_successor_becomes_a_dead_letter_and_frees_the_key(shard: Shard) -> None:
    put(shard)
    running = only(shard)
    put(shard, conflict="after")
    damage(shard)
    assert shard.settle([running]) == [True]
    assert holder(shard) == ""
    assert shard.promote().moved == 1
    found = shard.snapshot()
    assert (found.scheduled, found.dead) == (0, 1)
    assert found.counters == {"accepted": 2, "started": 1, "completed": 1, "dead": 1}


@pytest.mark.parametrize("conflict", ["replace", "reschedule", "debounce"])
def test_a_damaged_holder_stays_as_it_is(shard: Shard, conflict: str) -> None:
    first = put(shard, due=HOUR)
    damage(shard)
    assert call(shard, conflict=conflict) == Duplicate(first)
    assert shard.snapshot().scheduled == 1


@pytest.mark.parametrize("name", ["joined", "replaced", "superseded"])
def test_a_counter_that_is_no_number_refuses_the_call_as_a_whole(shard: Shard, name: str) -> None:
    put(shard)
    shard.command("HSET", shard.t.counters, name, "x")
    before = shard.command("HGETALL", shard.t.counters)
    with pytest.raises(ServerError, match="holds x, no number; nothing was written"):
        call(shard, conflict="replace", supersede=True)
    assert shard.command("HGETALL", shard.t.counters) == before
    assert shard.command("XLEN", shard.t.normal) == 1
