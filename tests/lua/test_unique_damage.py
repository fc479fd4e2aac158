"""Damaged rows of tasks with unique keys: one costs that row, and stops no script halfway."""

from __future__ import annotations

from typing import Final

import pytest

from streamq import StreamQ, Unique
from tests.lua.shard import Shard

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


def test_a_damaged_successor_becomes_a_dead_letter_and_frees_the_key(url: str, shard: Shard) -> None:
    app = StreamQ("shop", url)
    rule = Unique(on_conflict="after")
    first = app.send("email", {"n": 1}, unique=rule)
    app.send("email", {"n": 1}, unique=rule)
    damage(shard)
    assert first.cancel() == "cancelled"
    assert shard.promote().moved == 1
    counters = shard.snapshot().counters
    assert (counters["accepted"], counters["cancelled"], counters["dead"]) == (2, 1, 1)
    assert app.inspector.locks("email") == []
    assert app.inspector.audit().problems == []


@pytest.mark.parametrize("conflict", ["replace", "reschedule"])
def test_a_damaged_holder_stays_as_it_is(url: str, shard: Shard, conflict: str) -> None:
    app = StreamQ("shop", url)
    rule = Unique(on_conflict=conflict)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    first = app.send("email", {"n": 1}, unique=rule, delay="1h")
    damage(shard)
    assert app.send("email", {"n": 1}, unique=rule).id == first.id
    assert shard.snapshot().scheduled == 1
