"""Hostile bytes in every place that is read back from Redis.

Nothing ends a loop, the good tasks beside complete, and what is hostile ends as a dead letter with its
bytes, or stays where it is and is reported. `STREAMQ_FUZZ=5 pytest tests/fuzz` looks for longer.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq import Inspector, StreamQError, TaskRow
from streamq.cli import main
from streamq.control.task_rows import TaskFilter
from streamq.embedded import EmbeddedServer
from tests.fuzz.hostile import entries, odd_bytes, packed, rows, scores, thorough
from tests.fuzz.running import PREFIX, Shop, alive, good_ones_end, shop
from tests.letters import all_dead
from tests.running import until

STREAMS = ("high", "normal", "low", "suspect")
Fields = list[tuple[bytes, bytes]]


async def good(here: Shop, number: int = 3) -> list[Any]:
    return [await here.email.aenqueue(7) for _ in range(number)] + [await here.other.aenqueue(7)]


def look(here: Shop) -> None:
    """Everything that an operator may ask: answers or says why not, and never raises anything else."""
    for args in (["stats"], ["workers"], ["dead", "list"], ["audit"]):
        for json_ in ([], ["--json"]):
            assert main([*args, "--url", here.url, "--app", "shop", *json_]) in (0, 1, 6), args


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@thorough(30)
@given(hostile=st.lists(st.tuples(st.sampled_from(STREAMS), entries), min_size=5, max_size=25))
@pytest.mark.timeout(3600)
def test_entries(valkey: EmbeddedServer, hostile: list[tuple[str, Fields]]) -> None:
    """Each is run, if it is a task by chance, handed back late, if it asks for a newer release, or becomes a
    dead letter with all that is in it."""
    asyncio.run(_entries(shop(valkey.url), hostile))


async def _entries(here: Shop, hostile: list[tuple[str, Fields]]) -> None:
    before = await good(here)
    for stream, fields in hostile:
        here.ask("XADD", f"{PREFIX}email:{stream}", "*", *(part for pair in fields for part in pair))
    async with alive(here.app):
        await good_ones_end([*before, *await good(here)])

        inspector = here.app.inspector

        def decided() -> bool:
            stats = inspector.type_stats("email")
            return stats.ready + stats.running == 0 and all(map(_is_too_new, _scheduled(inspector)))

        await until(decided, 20)
        stats = inspector.type_stats("email")
        ended = stats.dead + stats.counters.get("completed", 0) + stats.counters.get("expired", 0)
        assert ended + stats.scheduled == len(hostile) + 6
        for letter in all_dead(here.app.inspector, "email"):
            assert letter.reason
            kept = set(zip(letter.fields[::2], letter.fields[1::2], strict=True))
            assert any(_is_in(fields, kept) for _, fields in hostile), letter
        assert all(p.invariant == "I5" for p in here.app.inspector.audit().problems)
        await asyncio.to_thread(look, here)


def _scheduled(inspector: Inspector) -> list[TaskRow]:
    return inspector.tasks("scheduled", "email", limit=200).rows


def _is_too_new(row: TaskRow) -> bool:
    """Return whether it was handed back for a newer release: the times are counted."""
    return "k" in row.fields


def _is_in(fields: Fields, kept: set[tuple[bytes, bytes]]) -> bool:
    """Whether this is what is left of the entry: streamq may have counted in its own fields."""
    return all(pair in kept or pair[0] in b"ialqfo" for pair in fields)


@thorough(25)
@given(hostile=st.lists(st.tuples(scores, rows), min_size=3, max_size=20, unique_by=lambda row: row[1]))
@pytest.mark.timeout(3600)
def test_rows_of_the_schedule(valkey: EmbeddedServer, hostile: list[tuple[str, bytes]]) -> None:
    asyncio.run(_rows(shop(valkey.url), hostile))


async def _rows(here: Shop, hostile: list[tuple[str, bytes]]) -> None:
    before = [
        await here.email.options(delay=0.01).aenqueue(7),
        await here.other.options(delay=0.01).aenqueue(7),
    ]
    for score, row in hostile:
        here.ask("ZADD", f"{PREFIX}email:schedule", score, row)
    await asyncio.to_thread(look, here)
    async with alive(here.app):
        await good_ones_end([*before, await here.email.options(delay=0.01).aenqueue(7)])
        await until(lambda: here.ask("ZCARD", f"{PREFIX}email:schedule") == 0)
        stats = here.app.inspector.type_stats
        await until(lambda: stats("email").ready + stats("email").running == 0)
        assert stats("email").dead + stats("email").counters["completed"] >= 2 + len(hostile)
        raw = {
            letter.fields[1] for letter in all_dead(here.app.inspector, "email") if letter.fields[0] == b"raw"
        }
        assert raw <= {row for _, row in hostile}
        assert all(p.invariant == "I5" for p in here.app.inspector.audit().problems)


@thorough(40)
@given(hostile=st.dictionaries(odd_bytes, packed, min_size=1, max_size=10), listed=st.booleans())
@pytest.mark.timeout(3600)
def test_dead_letters(valkey: EmbeddedServer, hostile: dict[bytes, bytes], listed: bool) -> None:
    """They are shown as far as they can be, and do not keep the good ones from being requeued or purged."""
    here = shop(valkey.url)
    asyncio.run(_one_dead_letter(here))
    for id_, letter in hostile.items():
        here.ask("HSET", f"{PREFIX}email:letters", id_, letter)
        if listed:
            here.ask("ZADD", f"{PREFIX}email:dead", 5, id_)
        here.ask("ZADD", f"{PREFIX}email:groups", 0, id_)
        here.ask("ZADD", f"{PREFIX}email:groups", 0, b"arguments 0000000000005 " + id_)
    look(here)
    assert sum(group.count for group in here.app.inspector.dead_groups().groups) > len(hostile)
    (good,) = (
        letter
        for letter in here.app.inspector.tasks("dead", "email", limit=200).rows
        if letter.reason == "arguments"
    )
    group = TaskFilter(fingerprint=good.fingerprint)
    assert good.id in [row.id for row in here.app.inspector.tasks("dead", "email", filter=group).rows]
    assert here.app.inspector.tasks("dead", "email").rows
    assert here.app.admin.requeue_type("email") >= 1
    assert here.app.inspector.type_stats("email").ready >= 1
    before = here.app.inspector.type_stats("email").dead
    assert here.app.admin.purge_type("email") == before
    here.app.close()


async def _one_dead_letter(here: Shop) -> None:
    here.ask("XADD", f"{PREFIX}email:normal", "*", "p", '{"y":1}')
    async with alive(here.app):
        await until(lambda: here.app.inspector.type_stats("email").dead == 1)


@thorough(30)
@given(
    index=st.dictionaries(odd_bytes, odd_bytes, max_size=5),
    beats=st.dictionaries(odd_bytes, odd_bytes, max_size=5),
    policy=st.dictionaries(
        st.one_of(st.sampled_from([b"lease_ms", b"max_lost", b"handler"]), st.binary(max_size=5)), odd_bytes
    ),
    apps=st.dictionaries(odd_bytes, odd_bytes, max_size=4), types=st.sets(odd_bytes, max_size=4),
    counters=st.dictionaries(odd_bytes, odd_bytes, max_size=3), result=odd_bytes, own_place=odd_bytes,
)  # fmt: skip
@pytest.mark.timeout(3600)
def test_everything_else(
    valkey: EmbeddedServer, index: Any, beats: Any, policy: Any, apps: Any, types: Any, counters: Any,
    result: bytes, own_place: bytes,
) -> None:  # fmt: skip
    """Index rows, heartbeats, policies, records of apps, names of types, counters and results."""
    here = shop(valkey.url)
    asyncio.run(_everything(here, index, beats, policy, apps, types, counters, result, own_place))


def _store(here: Shop, key: str, values: dict[bytes, bytes]) -> None:
    for name, value in values.items():
        here.ask("HSET", key, name, value)


async def _everything(
    here: Shop, index: Any, beats: Any, policy: Any, apps: Any, types: Any, counters: Any, result: bytes,
    own_place: bytes,
) -> None:  # fmt: skip
    misled = await here.email.options(delay=60).aenqueue(7)
    local = misled.id.rpartition(":")[2]
    async with alive(here.app):
        _store(here, f"{PREFIX}email:policy", policy)
        _store(here, f"{PREFIX}email:index", {**index, local.encode(): own_place})
        _store(here, f"{PREFIX}heartbeats", beats)
        _store(here, "streamq:apps", apps)
        _store(here, f"{PREFIX}other:counters", counters)
        for n, name in enumerate(beats):
            here.ask("ZADD", f"{PREFIX}workers", n, name)
        for name in types:
            here.ask("SADD", f"{PREFIX}types", name)
        handles = await good(here)
        await good_ones_end(handles)
        await good_ones_end([await here.email.options(delay=0.01).aenqueue(7)])
        bucket = next(key for key in here.ask("KEYS", f"{PREFIX}email:results:*"))  # type: ignore[attr-defined]
        for handle in handles[:3]:
            here.ask("HSET", bucket, handle.id.rpartition(":")[2], result)
        for handle in [*handles, misled]:
            for call in (handle.status, handle.cancel, lambda one=handle: one.result(0.01)):
                try:
                    await asyncio.to_thread(call)
                except (StreamQError, TimeoutError) as error:
                    assert str(error)
            assert main(["task", "show", handle.id, "--url", here.url, "--app", "shop"]) in (0, 1, 3)
        await asyncio.to_thread(look, here)


@thorough(15)
@given(messages=st.lists(st.tuples(st.sampled_from(["control", "wake", "done"]), odd_bytes), max_size=30))
@pytest.mark.timeout(3600)
def test_messages(valkey: EmbeddedServer, messages: list[tuple[str, bytes]]) -> None:
    """On every channel that somebody listens to, and on channels that only look so."""
    asyncio.run(_messages(shop(valkey.url), messages))


async def _messages(here: Shop, messages: list[tuple[str, bytes]]) -> None:
    async with alive(here.app):
        waited = await here.email.options(delay=0.3).aenqueue(7)
        waiting = asyncio.create_task(waited.aresult(10))
        for channel, text in messages:
            if channel == "done":
                here.ask("PUBLISH", f"{PREFIX}email:done:{waited.id.rpartition(':')[2]}", text)
            else:
                here.ask("PUBLISH", f"{PREFIX}{channel}", text)
                here.ask("PUBLISH", f"{PREFIX}{channel}", b"cancel " + text)
                here.ask("PUBLISH", b"streamq:{shop:" + text[:50] + b"}:wake", "email")
                here.ask("PUBLISH", b"streamq:{" + text[:50] + b":0}:wake", text)
        await good_ones_end([*await good(here), await here.email.options(delay=0.01).aenqueue(7)])
        assert await waiting == 7


TYPE_KEYS = (
    "high", "normal", "low", "suspect", "schedule", "index", "dead", "letters", "counters", "policy",
    "cancels", "waiters", "gone",
)  # fmt: skip


@pytest.mark.parametrize("kind", ["string", "list"])
def test_keys_of_the_wrong_kind(
    valkey: EmbeddedServer, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody SETs a key of ours: the neighbour is served all the same, the log says what is wrong, and
    when the key is gone the type goes on."""
    here = shop(valkey.url)
    asyncio.run(_wrong_kinds(here, ("SET", "x") if kind == "string" else ("RPUSH", "x")))
    out = capsys.readouterr()
    assert "WRONGTYPE" in out.out + out.err
    assert "Traceback" not in out.out + out.err


async def _wrong_kinds(here: Shop, spoil: tuple[str, str]) -> None:
    async with alive(here.app):
        await good_ones_end(await good(here))
        for name in TYPE_KEYS:
            key = f"{PREFIX}email:{name}"
            here.ask("DEL", key)
            here.ask(spoil[0], key, spoil[1])
            await good_ones_end(
                [await here.other.aenqueue(7), await here.other.options(delay=0.01).aenqueue(7)]
            )
            await asyncio.to_thread(look, here)
            here.ask("DEL", key)
            await here.app.asend("email", {"x": 7})
            await good_ones_end([await here.email.aenqueue(7)])


@pytest.mark.parametrize("key", ["streamq:apps", f"{PREFIX}types", f"{PREFIX}workers", f"{PREFIX}heartbeats"])
def test_shared_keys_of_the_wrong_kind(valkey: EmbeddedServer, key: str) -> None:
    here = shop(valkey.url)

    async def scenario() -> None:
        async with alive(here.app):
            await good_ones_end(await good(here))
            here.ask("DEL", key)
            here.ask("SET", key, "x")
            await good_ones_end(await good(here))
            for args in (["stats"], ["workers"], ["audit"]):
                assert await asyncio.to_thread(main, [*args, "--url", here.url, "--app", "shop"]) in (0, 1, 6)
            here.ask("DEL", key)

    asyncio.run(scenario())


def test_the_json_of_commands_is_json_whatever_is_stored(valkey: EmbeddedServer, capsys: Any) -> None:
    here = shop(valkey.url)
    asyncio.run(_one_dead_letter(here))
    here.ask("HSET", f"{PREFIX}email:letters", b"\xff", b"\xc1")
    here.ask("ZADD", f"{PREFIX}email:dead", 5, b"\xff")
    capsys.readouterr()
    assert main(["dead", "list", "--json", "--url", here.url, "--app", "shop"]) == 0
    assert json.loads(capsys.readouterr().out)["app"] == "shop"
    here.app.close()
