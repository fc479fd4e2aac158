"""Large arguments and results: in a store while their task or result lives, and gone after it."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamq import (
    Blobs,
    BlobStoreError,
    DecodeError,
    FileBlobs,
    KeyRing,
    Lane,
    PayloadError,
    QueueFull,
    ResultUnavailable,
    StreamQ,
    TaskDead,
    Unique,
)
from streamq.blobs.sweep import Sweep
from streamq.calls import blobs as calls
from streamq.control.task_info import TaskInfo
from streamq.errors import RedisError
from streamq.keys import shard_keys
from streamq.payloads.blobs import Reference, folder, written
from streamq.payloads.reading import shown
from streamq.transport.async_transport import AsyncTransport
from tests.conftest import command
from tests.letters import all_dead
from tests.running import clean, serving, until, work_off, working

BIG = "x" * 5000
OTHER = "y" * 5000
RING = KeyRing(current="2026-11", keys={"2026-11": bytes(range(32))})


class Shop:
    """An app with blobs in a directory."""

    def __init__(self, url: str, path: Path, **more: Any) -> None:
        self.path, self.url = path, url
        self.app = StreamQ("shop", url, blobs=Blobs(FileBlobs(path), over=1024), **more)
        self.seen: list[str] = []
        self.task: Any = self.app.task(name="echo", retention=600)(self._echo)
        self.plain: Any = self.app.task(name="plain")(self.run_plain)
        self.fails: Any = self.app.task(name="fails", max_attempts=3, backoff=lambda _: 0.01)(self._fails)

    async def _echo(self, text: str) -> str:
        self.seen.append(text)
        return text.upper()

    async def run_plain(self, text: str) -> None:
        self.seen.append(text)

    async def _fails(self, text: str) -> None:
        self.seen.append(text)
        raise ValueError("no")

    @property
    def files(self) -> list[Path]:
        """What is in the store."""
        return [one for one in self.path.rglob("*") if one.is_file()]

    async def sweep(self) -> int:
        """Remove what is due; return how much."""
        transport = AsyncTransport(self.app.address)
        try:
            return await Sweep(self.app.name, self.blobs, transport).remove_due(1)
        finally:
            await transport.aclose()

    @property
    def blobs(self) -> Blobs:
        found = self.app.registry.blobs
        assert found is not None
        return found

    def book(self) -> dict[str, int]:
        """The names that Redis knows, and from when on each may be removed."""
        raw: Any = command(self.url, "ZRANGE", shard_keys("shop", 0).blobs, 0, -1, "WITHSCORES")
        return {name.decode(): int(score) for name, score in zip(raw[::2], raw[1::2], strict=True)}


@pytest.fixture
def shop(url: str, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(url, tmp_path)
    yield made
    made.app.close()


async def test_arguments_and_results_pass_through_the_store(shop: Shop) -> None:
    async with working(shop.app):
        handle = await shop.task.aenqueue(BIG)
        assert await handle.aresult(20) == BIG.upper()
        assert await shop.task.enqueue("hi").aresult(20) == "HI"
        result = await asyncio.to_thread(shop.task.enqueue(OTHER).result, 20)
        assert result == OTHER.upper()
    assert len(shop.files) == 4  # two payloads, two results
    assert await shop.sweep() == 2
    assert sum(score < calls.LIVES for score in shop.book().values()) == 2  # the results, until they expire
    assert b"xxxx" not in str(command(shop.url, "DUMP", "streamq:{shop:0}:echo:normal")).encode()
    clean(shop.app)


async def test_a_small_task_touches_no_store(shop: Shop) -> None:
    handle = shop.task.enqueue("small")
    assert shop.files == []
    assert shop.book() == {}
    async with working(shop.app):
        await handle.aresult(20)
    assert shop.files == []


async def test_a_blob_is_sealed_and_compressed_before(url: str, tmp_path: Path) -> None:
    shop = Shop(url, tmp_path, keys=RING, compression="zlib")
    noise = "".join(chr(33 + (n * 7919) % 90) + str(n) for n in range(3000))
    async with working(shop.app):
        handle = shop.task.enqueue(noise)
        [file] = shop.files
        assert b"aesgcm" in file.read_bytes()
        assert noise[:30].encode() not in file.read_bytes()
        assert await handle.aresult(20) == noise.upper()
    shop.app.close()


async def test_each_attempt_reads_it_and_a_dead_letter_keeps_it(shop: Shop) -> None:
    async with serving(shop.app):
        handle = shop.fails.enqueue(BIG)
        with pytest.raises(TaskDead):
            await handle.aresult(20)
        assert shop.seen == [BIG] * 3
        await shop.sweep()
        assert len(shop.files) == 1
        assert len(all_dead(shop.app.inspector, "fails")) == 1
        shop.app.admin.requeue([handle.id])
        await until(lambda: len(shop.seen) == 6)
        await until(lambda: bool(all_dead(shop.app.inspector, "fails")))
        shop.app.admin.purge([handle.id])
    await shop.sweep()
    assert shop.files == []
    assert shop.book() == {}


@pytest.mark.parametrize("end", ["cancel", "cancel later", "expire", "purge"])
async def test_every_end_frees_the_blob(shop: Shop, end: str) -> None:
    options: dict[str, dict[str, Any]] = {"cancel later": {"delay": 60}, "expire": {"expires": 0.001}}
    more = options.get(end, {})
    handle = shop.plain.options(**more).enqueue(BIG)
    assert len(shop.book()) == 1
    if end == "purge":
        worker = Shop(shop.url, shop.path / "elsewhere")  # another store: the blob is not there
        async with working(worker.app):
            await until(lambda: handle.status() == "dead")
        assert shop.app.admin.purge([handle.id]) == 1
        worker.app.close()
    elif end == "expire":
        async with serving(shop.app):
            await until(lambda: handle.status() == "expired")
    else:
        assert handle.cancel() == "cancelled"
    await shop.sweep()
    assert (shop.files, shop.book()) == ([], {})
    clean(shop.app)


async def test_an_overwritten_list_of_blobs_costs_only_new_ones(shop: Shop) -> None:
    """A task with a blob ends all the same; a new one is refused: its blob could be removed early."""
    waiting, key = shop.task.enqueue(BIG), shard_keys("shop", 0).blobs
    command(shop.url, "SET", key, "x")
    with pytest.raises(RedisError, match="somebody overwrote it; nothing was written"):
        shop.task.enqueue(OTHER)
    async with working(shop.app):
        assert await waiting.aresult(20) == BIG.upper()
        assert await shop.task.enqueue("hi").aresult(20) == "HI"
        assert await shop.task.options(unique=Unique(by=("text",))).enqueue("hi").aresult(20) == "HI"
    command(shop.url, "DEL", key)


async def test_a_missing_blob_is_a_dead_letter_at_once(shop: Shop) -> None:
    handle = shop.plain.enqueue(BIG)
    shop.files[0].unlink()
    async with working(shop.app):
        with pytest.raises(TaskDead, match="is not in FileBlobs") as caught:
            await handle.aresult(20)
    assert caught.value.reason == "blob"
    assert shop.seen == []


async def test_a_changed_blob_is_not_run(shop: Shop) -> None:
    handle = shop.plain.enqueue(BIG)
    shop.files[0].write_bytes(b'{"text":"' + b"z" * 5000 + b'"}')
    async with working(shop.app):
        with pytest.raises(TaskDead, match="has been changed or cut"):
            await handle.aresult(20)


def swap(files: list[Path]) -> None:
    one, other = (file.read_bytes() for file in files)
    files[0].write_bytes(other)
    files[1].write_bytes(one)


@pytest.mark.parametrize("how", ["truncated", "empty", "swapped", "swapped sealed", "bomb", "another blob"])
def test_a_bad_blob_costs_its_task_only(url: str, tmp_path: Path, how: str) -> None:
    """What stands in the store is input: each of these is a dead letter at once, says so, and can be requeued
    when the blob is there again."""
    shop = Shop(url, tmp_path, keys=RING if how.endswith("sealed") else None)
    handle = shop.plain.enqueue(BIG)
    [file] = shop.files
    before, reason = file.read_bytes(), "blob"
    match how:
        case "truncated":
            file.write_bytes(before[:100])
        case "empty":
            file.write_bytes(b"")
        case "bomb":
            file.write_bytes(zlib.compress(bytes(10_000_000)))
        case "another blob":
            file.write_bytes(written(Reference("a/b/c", 1, "", "")))
        case _:
            shop.fails.enqueue(OTHER)
            swap(shop.files)
            reason = "tampered" if how == "swapped sealed" else "blob"
    good = shop.plain.enqueue("good")
    work_off(shop.app)
    assert shop.seen.count("good") == 1
    assert good.status() == "completed"
    with pytest.raises(TaskDead, match="has been changed or cut|the seal .* does not hold") as dead:
        handle.result(5)
    assert dead.value.reason == reason
    file.write_bytes(before)
    assert shop.app.admin.requeue([handle.id]) == 1
    work_off(shop.app)
    assert shop.seen.count(BIG) == 1


def test_a_bad_blob_of_a_result_is_told_to_its_reader(url: str, tmp_path: Path) -> None:
    shop = Shop(url, tmp_path, keys=RING)
    ones = [shop.task.enqueue(text) for text in ("a" * 3000, "b" * 3000)]
    payloads = set(shop.files)
    work_off(shop.app)
    results = [one for one in shop.files if one not in payloads]
    swap(results)
    for one in ones:  # a result is sealed for its task
        with pytest.raises(DecodeError, match=f"cannot read the result of task {one.id}: the seal"):
            one.result(5)
    results[0].write_bytes(results[0].read_bytes()[:50])
    results[1].unlink()
    told = sorted(_error(one) for one in ones)
    assert "cannot read the result" in told[0]
    assert "is gone: its blob" in told[1]


def _error(handle: Any) -> str:
    with pytest.raises((DecodeError, ResultUnavailable)) as caught:
        handle.result(5)
    return str(caught.value)


async def test_a_missing_result_says_so(shop: Shop) -> None:
    async with working(shop.app):
        handle = shop.task.enqueue(BIG)
        await until(lambda: handle.status() == "completed")
        for file in shop.files:
            file.unlink()
        with pytest.raises(ResultUnavailable, match="is gone: its blob"):
            await handle.aresult(5)


async def test_a_worker_without_the_store_hands_back(shop: Shop) -> None:
    handle = shop.plain.enqueue(BIG)
    bare = StreamQ("shop", shop.url)
    bare.task(name="plain")(shop.run_plain)
    async with working(bare) as worker:
        await until(lambda: handle.status() == "scheduled")
        [count] = worker.parts.runner.attempts.too_new.counts()
    assert (count["type"], count["needs"]) == ("plain", "blobs")
    bare.close()
    shop.app.admin.run_now(handle.id)
    async with working(shop.app):
        await until(lambda: shop.seen == [BIG])


async def test_a_store_that_cannot_be_reached_enqueues_nothing(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    app = StreamQ("shop", shop.url, blobs=Blobs(FileBlobs(tmp_path / "file"), over=1024))
    task = app.task(name="plain")(shop.run_plain)
    with pytest.raises(BlobStoreError, match=r"task type 'plain': its 5,011 bytes could not be stored"):
        task.enqueue(BIG)
    with pytest.raises(BlobStoreError):
        await task.aenqueue(BIG)
    assert "plain" not in app.inspector.types()
    app.close()


def test_a_blob_has_a_limit(url: str, tmp_path: Path) -> None:
    app = StreamQ("shop", url, blobs=Blobs(FileBlobs(tmp_path), over=1024, most=4096))
    task = app.task(name="plain")(lambda text: None)
    with pytest.raises(PayloadError, match="over the 4,096 that a blob may have"):
        task.enqueue(BIG)
    app.close()


async def test_a_replaced_call_and_a_duplicate_free_theirs(url: str, tmp_path: Path) -> None:
    shop = Shop(url, tmp_path)

    async def work(text: str, number: int = 0) -> None:
        shop.seen.append(text)

    last: Any = shop.app.task(name="last", unique=Unique(("number",), on_conflict="replace"))(work)
    first: Any = shop.app.task(name="first", unique=Unique(("number",)))(work)
    for text in (BIG, OTHER):
        last.enqueue(text)
        first.enqueue(text)
    await shop.sweep()
    assert len(shop.files) == 2  # one of each type
    async with working(shop.app):
        await until(lambda: sorted(shop.seen) == [BIG, OTHER])
    await shop.sweep()
    assert (shop.files, shop.book()) == ([], {})
    clean(shop.app)
    shop.app.close()


async def test_lanes_idempotency_and_a_full_queue(url: str, tmp_path: Path) -> None:
    shop = Shop(url, tmp_path)

    async def work(text: str) -> None:
        shop.seen.append(text)

    laned: Any = shop.app.task(name="laned", lane=Lane("text", running=1))(work)
    small: Any = shop.app.task(name="small", max_backlog=1)(work)
    laned.options(lane="a").enqueue(BIG)
    laned.options(lane="a").enqueue(OTHER)
    small.options(idempotency_key="k").enqueue(BIG)
    small.options(idempotency_key="k").enqueue(BIG)
    with pytest.raises(QueueFull):
        small.enqueue(OTHER)
    await shop.sweep()
    assert len(shop.files) == 3
    async with serving(shop.app):
        await until(lambda: len(shop.seen) == 3)
        await until(shop.app.idle)
    await shop.sweep()
    assert (shop.files, shop.book()) == ([], {})
    clean(shop.app)
    shop.app.close()


async def test_what_a_dead_producer_left_is_swept(shop: Shop) -> None:
    """A program that was killed between the store and the queue."""
    name = folder("shop", "streamq:") + "plain/6b0dddea-" + "0" * 32
    FileBlobs(shop.path).put(name, b"left behind")
    shop.plain.enqueue(BIG)
    transport = AsyncTransport(shop.app.address)
    sweep = Sweep(shop.app.name, shop.blobs, transport)
    page = await sweep.page()
    assert await sweep.unknown(page, 1) == []  # younger than a day
    orphans = await sweep.unknown(page, 1, older_than=-1)
    assert [one.name for one in orphans] == [name]
    assert await sweep.remove(orphans) == 1
    await transport.aclose()
    async with working(shop.app):
        await until(lambda: shop.seen == [BIG])


async def test_a_name_of_another_program_leads_nowhere(shop: Shop, tmp_path: Path) -> None:
    key = shard_keys("shop", 0).blobs
    (tmp_path.parent / "other").write_text("not ours")
    for name in ("../other", b"\xff\xfe", "streamq%3Aelse/plain/1-a", "a//b", "x" * 3000):
        command(shop.url, "ZADD", key, 1000, name)
    shop.plain.enqueue(BIG).cancel()
    assert await shop.sweep() == 6  # those names, and the blob of the task
    assert (shop.files, shop.book()) == ([], {})
    assert (tmp_path.parent / "other").read_text() == "not ours"


async def test_audit_tells_of_what_nobody_removes(shop: Shop) -> None:
    command(shop.url, "ZADD", shard_keys("shop", 0).blobs, 1000, "streamq%3Ashop/plain/1-a")
    shop.plain.enqueue("small")
    [problem] = shop.app.inspector.audit().problems
    assert problem.code == "overdue_blobs"


async def test_a_worker_sweeps_by_itself(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamq.worker import blob_sweeper

    monkeypatch.setattr(blob_sweeper, "EVERY", 0.05)
    async with working(shop.app):
        shop.plain.enqueue(BIG)
        await until(lambda: shop.seen == [BIG] and not shop.files)


async def test_by_name_and_executor_process_children_are_given_the_text(shop: Shop) -> None:
    sender = StreamQ("shop", shop.url, blobs=Blobs(FileBlobs(shop.path), over=1024))
    sender.send("plain", {"text": BIG})
    assert len(shop.files) == 1
    async with working(shop.app):
        await until(lambda: shop.seen == [BIG])
    sender.close()


async def test_a_key_of_a_blob_is_counted_and_sealed_anew(url: str, tmp_path: Path) -> None:
    old = Shop(url, tmp_path, keys=KeyRing("old", {"old": bytes(range(32))}), compression="zlib")
    old.plain.enqueue("small")
    handle = old.fails.options(max_attempts=1).enqueue(BIG + "".join(map(str, range(3000))))
    async with working(old.app):
        await until(lambda: handle.status() == "dead" and old.seen[-1:] != [])
    assert {one.key for one in old.app.inspector.key_use() if one.dead or one.waiting} == {"old"}
    both = {"old": bytes(range(32)), "new": bytes(range(1, 33))}
    new = Shop(url, tmp_path, keys=KeyRing("new", both, index=bytes(range(32))), compression="zlib")
    assert new.app.admin.reseal(["fails"]) == (1, 0)
    assert {(one.key, one.dead) for one in new.app.inspector.key_use() if one.dead} == {("new", 1)}
    only = Shop(url, tmp_path, keys=KeyRing("new", {"new": both["new"]}, index=bytes(range(32))))
    only.app.admin.requeue([handle.id])
    async with working(only.app):
        await until(lambda: any(text.startswith(BIG) for text in only.seen))
    for one in (old, new, only):
        one.app.close()


async def test_people_see_where_it_is(shop: Shop) -> None:
    handle = shop.plain.enqueue(BIG)
    found: TaskInfo | None = shop.app.inspector.task(handle.id)
    assert found is not None
    assert found.payload is not None
    assert shown(found.payload).startswith("it is in blob streamq%3Ashop/plain/")
