"""The hash that spreads keys, and the app record as it is read."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter

import pytest

from streamq import InvalidOption, StreamQ, envelope
from streamq.shards import MOST, AppRecord, shard_of

KEYS = [f"customer-{n}" for n in range(4000)]


@pytest.mark.parametrize("shards", [2, 3, 7, 64])
def test_keys_spread_evenly(shards: int) -> None:
    found = Counter(shard_of(key, shards) for key in KEYS)
    assert set(found) == set(range(shards))
    assert max(found.values()) < 1.6 * len(KEYS) / shards


@pytest.mark.parametrize("shards", [1, 2, 5, 16])
def test_one_more_shard_moves_few_keys_and_only_to_itself(shards: int) -> None:
    moved = [k for k in KEYS if shard_of(k, shards) != shard_of(k, shards + 1)]
    assert {shard_of(key, shards + 1) for key in moved} == {shards}
    assert len(moved) < 1.3 * len(KEYS) / (shards + 1)


def test_a_key_has_the_same_shard_in_every_process_and_release() -> None:
    assert [shard_of(key, 16) for key in ("a", "order-42", "ü", "x" * 200)] == [11, 6, 2, 4]
    code = "from streamq.shards import shard_of; print(shard_of('order-42', 16))"
    assert subprocess.check_output([sys.executable, "-c", code]).strip() == b"6"


GARBAGE = [
    None, b"", b"[]", b"7", b"null", b"{", b"\xff", b'{"shards":0}', b'{"shards":99999999}',
    b'{"shards":true}', b'{"shards":"4"}', b'{"shards":4,"known":"x"}', b'{"shards":4,"past":7}',
    b'{"shards":4,"past":{"x":1}}',
]  # fmt: skip


@pytest.mark.parametrize("raw", GARBAGE)
def test_a_damaged_record_is_one_shard(raw: bytes | None) -> None:
    assert AppRecord.parse(raw) == AppRecord()


def test_a_record_is_read() -> None:
    assert AppRecord.parse(b'{"shards":3}') == AppRecord(3, 3)
    assert AppRecord.parse(b'{"shards":3,"known":2}') == AppRecord(3, 3)
    raw = b'{"shards":2,"known":8,"epoch":5,"past":{"8":1700000000000}}'
    assert AppRecord.parse(raw) == AppRecord(2, 8, 5, {8: 1700000000000})


def test_a_key_has_a_home_and_those_it_had_before() -> None:
    record = AppRecord(4, 8, 0, {8: 1000, 1: 500})
    key = next(k for k in KEYS if shard_of(k, 8) > 3 and shard_of(k, 4) > 0)
    assert record.homes(key, 0) == (shard_of(key, 4), [0, shard_of(key, 8)])
    assert record.homes(key, 501) == (shard_of(key, 4), [shard_of(key, 8)])
    assert record.homes(key, 1001) == (shard_of(key, 4), [])


def test_the_number_of_shards_is_bounded() -> None:
    with pytest.raises(InvalidOption, match="at most 256"):
        StreamQ("shop", shards=MOST + 1)


def test_a_digest_ignores_the_order_of_names_and_tells_types_and_arguments_apart() -> None:
    one = envelope.digest("email", b'{"a":1,"b":{"y":1,"x":2}}')
    assert one == envelope.digest("email", b'{"b":{"x":2,"y":1},"a":1}')
    assert one != envelope.digest("email2", b'{"a":1,"b":{"y":1,"x":2}}')
    assert one != envelope.digest("email", b'{"a":1,"b":{"y":1,"x":3}}')
    assert envelope.digest("email", b"[1,2]") != envelope.digest("email", b"[2,1]")


def test_equal_sets_have_equal_payloads() -> None:
    app = StreamQ("shop")

    @app.task
    def work(tags: set[str]) -> None: ...

    tags = [f"tag{n}" for n in range(50)]
    payloads = {work.bind(set(random.sample(tags, 50))).task.payload for _ in range(20)}
    assert len(payloads) == 1
