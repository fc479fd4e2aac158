"""Sealed payloads: who reads the server does not see what tasks are about, and what was changed or moved does
not run. Keys rotate while old and new workers run."""

from __future__ import annotations

import asyncio
import base64
import json
import multiprocessing
import os
import pickle
from typing import Any

import pytest

from streamq import (
    DecodeError,
    Every,
    InvalidOption,
    KeyRing,
    PayloadError,
    StreamQ,
    TaskDead,
    get_context,
)
from streamq.cli import main
from streamq.control.key_use import KeyUse
from streamq.dashboard import dashboard
from streamq.dashboard.auth import Anyone
from streamq.keys import shard_keys, type_keys
from streamq.payloads.keyring import new_key
from streamq.payloads.pipeline import key_of, opened, pipeline_for
from streamq.payloads.ring import ring_of
from streamq.payloads.stage import About, NoKey
from streamq.worker import too_new
from tests.conftest import command
from tests.dashboard.test_pages import client
from tests.letters import all_dead
from tests.payloads.test_stages import stored
from tests.running import clean, serving, until

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
SECRET = "ada.lovelace@example.org"  # noqa: S105


def before() -> KeyRing:
    return KeyRing(current="2026-05", keys={"2026-05": OLD})


def both() -> KeyRing:
    return KeyRing(current="2026-05", keys={"2026-05": OLD, "2026-11": NEW})


def after() -> KeyRing:
    return KeyRing(current="2026-11", keys={"2026-05": OLD, "2026-11": NEW})


class Shop:
    """An app with a ring, or none. `seen`: what its handlers were called with."""

    def __init__(self, url: str, ring: KeyRing | None, name: str = "shop") -> None:
        self.url, self.app = url, StreamQ(name, url, keys=ring)
        self.seen: list[str] = []
        self.mail: Any = self.app.task(name="mail", retention=600)(self._mail)
        self.fails: Any = self.app.task(name="fails", max_attempts=2, backoff=lambda _state: 0.01)(
            self._fails
        )
        self.steps: Any = self.app.task(name="steps", retention=600)(self._steps)
        self.once: Any = self.app.task(name="once", unique=True)(self._mail)

    async def _mail(self, to: str) -> dict[str, str]:
        self.seen.append(to)
        return {"sent": to}

    async def _fails(self, to: str) -> None:
        raise ValueError(f"no such mailbox: {to}")

    async def _steps(self, to: str) -> str:
        context = get_context()
        context.progress(1, 2, f"for {to}")
        context.emit({"about": to})
        found = await context.step("charge", lambda: f"charged {to}")
        context.enqueue(self.mail.bind(to))
        if context.attempt == 1:
            raise RuntimeError(f"once more, {to}")
        assert await context.wait("approved") == {"by": to}
        return str(found)


def environment(monkeypatch: pytest.MonkeyPatch, **keys: bytes) -> None:
    texts = {name.replace("_", "-"): base64.b64encode(key).decode() for name, key in keys.items()}
    ring = {"current": next(iter(texts)), "keys": texts}
    monkeypatch.setenv("STREAMQ_KEYS", json.dumps(ring))


async def test_nothing_is_on_the_server_in_clear(  # noqa: PLR0915 - one queue, and all who look at it
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(url, both())
    done, dead, steps = shop.mail.enqueue(SECRET), shop.fails.enqueue(SECRET), shop.steps.enqueue(SECRET)
    later = shop.mail.options(delay="1h").enqueue(SECRET)
    sent = shop.app.send("elsewhere", {"to": SECRET})
    shop.app.schedules.put("nightly", Every("1d"), shop.mail.bind(SECRET))
    heard: list[Any] = []

    async def hear() -> None:
        heard.extend([event async for event in steps.events()])

    hearing = asyncio.create_task(hear())
    assert steps.signal("approved", {"by": SECRET}) == "stored"
    async with serving(shop.app):
        assert await done.aresult(20) == {"sent": SECRET}
        with pytest.raises(TaskDead, match=SECRET):
            await dead.aresult(20)
        assert SECRET.encode() not in stored(url)
        assert await steps.aresult(20) == f"charged {SECRET}"
        await until(lambda: shop.seen.count(SECRET) == 2)
        await hearing
    assert SECRET.encode() not in stored(url)
    assert {event.kind for event in heard} == {"progress", "value", "end"}
    assert next(event.text for event in heard if event.kind == "progress") == f"for {SECRET}"
    info = shop.app.inspector.task(dead.id)
    assert [one["message"] for one in info.failures] == [f"no such mailbox: {SECRET}"] * 2
    assert json.loads(shop.app.inspector.task(later.id).payload or b"") == {"to": SECRET}
    assert json.loads(shop.app.inspector.task(sent.id).payload or b"") == {"to": SECRET}

    without = StreamQ("shop", url)
    info = without.inspector.task(dead.id)
    assert info.failures[0]["message"] == "sealed with key '2026-05', which is not given here"
    [group] = without.inspector.dead_groups("fails").groups
    assert (group.error, group.message) == (
        "ValueError",
        "sealed with key '2026-05', which is not given here",
    )
    assert "in _fails" in group.place
    with pytest.raises(DecodeError, match="cannot read the result of task .* sealed with key '2026-05'"):
        await without.handle(done.id).aresult(5)
    for words in (
        ["task", "show", done.id],
        ["task", "show", dead.id],
        ["task", "list", "dead"],
        ["dead", "show", dead.id],
    ):
        monkeypatch.delenv("STREAMQ_KEYS", raising=False)
        capsys.readouterr()
        assert main([*words, "--url", url]) == 0
        shown = capsys.readouterr().out
        assert SECRET not in shown
        assert "sealed with key '2026-05'" in shown
        environment(monkeypatch, **{"2026_05": OLD})
        assert main([*words, "--url", url]) == 0
        assert SECRET in capsys.readouterr().out
    clean(shop.app)


async def test_the_dashboard_shows_it_to_the_role_only(url: str) -> None:
    shop = Shop(url, both())
    done, dead, steps = shop.mail.enqueue(SECRET), shop.fails.enqueue(SECRET), shop.steps.enqueue(SECRET)
    async with serving(shop.app):
        await done.aresult(20)
        with pytest.raises(TaskDead):
            await dead.aresult(20)
        await until(lambda: shop.app.inspector.task(steps.id).suspended is not None)
    pages = [
        "/dead", "/tasks?state=completed", "/tasks?state=dead", "/types/fails", f"/tasks/{done.id}",
        f"/tasks/{dead.id}", f"/api/tasks/{dead.id}", f"/api/tasks/{steps.id}",
        "/api/tasks?state=dead", "/api/dead",
    ]  # fmt: skip
    for role in ("viewer", "operator"):
        async with client(dashboard(shop.app, auth=Anyone(role))) as browser:
            for page in pages:
                answer = await browser.get(page)
                assert answer.status_code == 200
                assert SECRET not in answer.text, page
            for page in pages[4:8]:
                assert "sealed with key" in (await browser.get(page)).text
            told = (await browser.get(pages[7])).json()
            assert "sealed with key" in told["memos"]["charge"]
            assert told["suspended"] == {"until_ms": None, "signal": "approved"}
            looked = await browser.get("/api/tasks", params={"state": "dead", "error": "lovelace"})
            assert looked.json()["tasks"] == []
    async with client(dashboard(shop.app, auth=Anyone("admin"))) as browser:
        for page in pages[4:]:
            assert SECRET in (await browser.get(page)).text, page
    bare = StreamQ("shop", url)
    async with client(dashboard(bare, auth=Anyone("admin"))) as browser:
        for page in pages:
            assert SECRET not in (await browser.get(page)).text, page


async def test_a_rotation_with_old_and_new_workers(url: str) -> None:
    """Given a rotation in mid-run with old and new workers, then no dead letter."""
    old, new = Shop(url, both()), Shop(url, after())
    handles = []
    async with serving(old.app), serving(new.app):
        for n in range(60):
            handles.append((old, new)[n % 2].mail.enqueue(f"{n}"))
        for n, handle in enumerate(handles):
            assert await (new, old)[n % 2].app.handle(handle.id).aresult(30) == {"sent": f"{n}"}
    assert sorted(old.seen + new.seen, key=int) == [f"{n}" for n in range(60)]
    assert all_dead(old.app.inspector, "mail") == []
    clean(new.app)


async def test_a_key_that_is_not_here_yet_waits(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was not given the new key hands its tasks back, and one that has it runs them."""
    old, new = Shop(url, before()), Shop(url, after())
    handle = new.mail.enqueue(SECRET)
    async with serving(old.app):
        await until(lambda: new.app.inspector.task(handle.id).state == "scheduled")
    monkeypatch.setattr(too_new, "FIRST", 0.01)
    new.app.admin.run_now(handle.id)
    async with serving(old.app), serving(new.app):
        assert await handle.aresult(30) == {"sent": SECRET}
    info = new.app.inspector.task(handle.id)
    assert (info.attempts_failed, old.seen, new.seen) == (0, [], [SECRET])


async def test_a_key_that_nobody_has_is_a_dead_letter_after_an_hour(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(too_new, "FIRST", 0.001)
    monkeypatch.setattr(too_new, "LONGEST", 0.001)
    old, new = Shop(url, before()), Shop(url, after())
    handle = new.mail.enqueue(SECRET)
    async with serving(old.app):
        with pytest.raises(TaskDead, match="sealed with key '2026-11'"):
            await old.app.handle(handle.id).aresult(60)
    [letter] = all_dead(old.app.inspector, "mail")
    assert letter.reason == "key"
    assert dict(zip(letter.fields[::2], letter.fields[1::2], strict=True))[b"k"] == b"%d" % too_new.HOUR
    assert old.app.admin.requeue([handle.id]) == 1
    async with serving(new.app):
        assert await handle.aresult(20) == {"sent": SECRET}
    clean(new.app)


def test_the_delays_of_an_hour_are_an_hour() -> None:
    delays = [min(too_new.LONGEST, too_new.FIRST * 2**n) for n in range(too_new.HOUR)]
    assert 3300 < sum(delays) < 4500


async def test_what_was_changed_or_swapped_does_not_run(url: str) -> None:
    shop, other = Shop(url, both()), Shop(url, both(), "bank")
    first = shop.app.inspector.task(shop.mail.enqueue("a").id).fields["p"]
    broken = first[:-1] + bytes([first[-1] ^ 1])
    foreign = other.app.inspector.task(other.mail.enqueue("a").id).fields["p"]
    typed = shop.app.inspector.task(shop.fails.enqueue("a").id).fields["p"]
    for payload in (broken, foreign, typed):
        command(url, "XADD", "streamq:{shop:0}:mail:normal", "*", "p", payload)
        command(url, "HINCRBY", "streamq:{shop:0}:mail:counters", "accepted", 1)
    async with serving(shop.app):
        await until(lambda: len(all_dead(shop.app.inspector, "mail")) == 3)
        await until(lambda: shop.seen == ["a"])
    assert {letter.reason for letter in all_dead(shop.app.inspector, "mail")} == {"tampered"}


async def test_a_result_of_another_task_is_noticed(url: str) -> None:
    """Given a result of task A put under B, then reading B fails as tampered."""
    shop = Shop(url, both())
    ones = [shop.mail.enqueue(f"{n}") for n in range(2)]
    async with serving(shop.app):
        for handle in ones:
            await handle.aresult(20)
    place = {key: command(url, "HGETALL", key) for key in command(url, "KEYS", "*results*")}  # type: ignore[attr-defined]
    found = [(key, row[n], row[n + 1]) for key, row in place.items() for n in range(0, len(row), 2)]  # type: ignore[index,arg-type]
    assert len(found) == 2
    (key, name, _), (_, _, value) = found
    command(url, "HSET", key, name, value)
    results = []
    for handle in ones:
        try:
            results.append(await shop.app.handle(handle.id).aresult(5))
        except DecodeError as error:
            results.append(error.reason)
    assert "tampered" in results


async def test_a_retried_task_keeps_its_bytes(url: str) -> None:
    """Given a task retried three times, then its payload bytes are the same."""
    app = StreamQ("shop", url, keys=both())

    @app.task(name="again", max_attempts=4, backoff=lambda _state: 0.01)
    async def again(to: str) -> None:
        raise ValueError(to)

    handle = again.enqueue(SECRET)
    first = app.inspector.task(handle.id).fields["p"]
    async with serving(app):
        with pytest.raises(TaskDead):
            await handle.aresult(30)
    [letter] = all_dead(app.inspector, "again")
    fields = dict(zip(letter.fields[::2], letter.fields[1::2], strict=True))
    assert fields[b"p"] == first
    assert len(app.inspector.task(handle.id).failures) == 4


async def test_an_edit_needs_the_ring_and_seals_anew(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(url, before())
    dead = shop.fails.enqueue(SECRET)
    async with serving(shop.app):
        with pytest.raises(TaskDead):
            await dead.aresult(20)
    with pytest.raises(PayloadError, match="cannot be edited: sealed with key"):
        StreamQ("shop", url).admin.resubmit(dead.id, b'{"to": "x"}')
    assert main(["dead", "edit", dead.id, '{"to": "x"}', "--url", url]) != 0
    capsys.readouterr()
    environment(monkeypatch, **{"2026_11": NEW, "2026_05": OLD})
    assert main(["dead", "edit", dead.id, '{"to": "x@example.org"}', "--url", url]) == 0
    new = capsys.readouterr().out.strip()
    info = shop.app.inspector.task(new)
    assert key_of(info.fields["p"]) == "2026-11"
    assert b"x@example" not in info.fields["p"]
    assert json.loads(Shop(url, after()).app.inspector.task(new).payload or b"") == {"to": "x@example.org"}


async def test_digests_of_keys_are_keyed_and_outlive_a_rotation(url: str) -> None:
    plain, old, new = Shop(url, None), Shop(url, before()), Shop(url, after())
    handle = old.once.enqueue(SECRET)
    assert new.once.enqueue(SECRET).id == handle.id
    [lock] = old.app.inspector.locks("once")
    assert plain.once.enqueue(SECRET).id != handle.id  # another digest: give all producers the ring
    assert len(old.app.inspector.locks("once")) == 2
    named = old.once.options(unique="tuesday").enqueue("b")
    held = new.app.inspector.lock("once", "tuesday")
    assert held is not None
    assert held.holder == named.id
    assert held.key != lock.key
    keyed = old.mail.options(idempotency_key="order 7").enqueue(SECRET)
    assert new.mail.options(idempotency_key="order 7").enqueue(SECRET).id == keyed.id
    assert new.app.find("mail", key="order 7").status() == "ready"
    assert new.app.send("once", {"to": SECRET}).id == handle.id
    sender = StreamQ("shop", url, keys=after())  # without the code
    assert sender.send("once", {"to": SECRET}).id == handle.id
    assert sender.send("mail", {"to": SECRET}, idempotency_key="order 7").id == keyed.id


def _numbers(ring: KeyRing, out: Any) -> None:
    out.put(tuple(ring.sealer()[::2]))


def test_a_forked_process_has_a_salt_of_its_own() -> None:
    ring = both()
    salt, _, number = ring.sealer()
    assert ring.sealer()[::2] == (salt, number + 1)
    context = multiprocessing.get_context("fork")
    out = context.Queue()
    process = context.Process(target=_numbers, args=(ring, out))
    process.start()
    theirs = out.get(timeout=30)
    process.join(30)
    assert theirs[0] != salt
    assert theirs[1] == 0


def test_no_two_seals_are_the_same() -> None:
    ring, stages = both(), pipeline_for(None, sealed=True)
    app = Shop("redis://localhost:1", ring).app
    about = About(app.name, "mail", "payload")
    assert stages is not None
    sealed = {stages.seal(b"{}", about) for _ in range(100)}
    assert len(sealed) == 100
    assert {len(one) for one in sealed} == {2 + 60}
    assert {opened(one, about) for one in sealed} == {b"{}"}
    one = sealed.pop()
    with pytest.raises(NoKey):
        opened(one)
    with pytest.raises(DecodeError, match="the seal .* does not hold") as caught:
        opened(one, about._replace(purpose="result"))
    assert caught.value.reason == "tampered"
    for cut in range(1, 40):
        with pytest.raises(DecodeError):
            opened(one[:-cut], about)


@pytest.mark.parametrize(
    ("current", "keys", "words"),
    [
        ("a", {}, "at least one"),
        ("b", {"a": OLD}, "current='b' is not among the keys: 'a'"),
        ("a", {"a": b"short"}, "key 'a' must be 32 bytes, not 5 bytes"),
        ("a", {"a": "?"}, "key 'a' is not base64"),
        ("a", {"a": 7}, "key 'a' must be 32 bytes, not int"),
        ("a b", {"a b": OLD}, "'a b' is not the id of a key"),
    ],
)
def test_a_ring_that_cannot_work_is_refused(current: str, keys: Any, words: str) -> None:
    with pytest.raises(InvalidOption, match=words):
        KeyRing(current, keys)


def test_a_ring_shows_no_key_and_stays_here() -> None:
    asked: list[int] = []

    def from_kms() -> bytes:
        asked.append(1)
        return OLD

    text = base64.b64encode(OLD).decode()
    ring = KeyRing(current="kms", keys={"kms": from_kms, "text": text, "raw": OLD})
    assert repr(ring) == "<KeyRing current='kms' of kms, text, raw>"
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(ring)
    app = StreamQ("shop", keys=ring)
    assert ring_of(pickle.loads(pickle.dumps(app.name))) is None  # noqa: S301
    assert asked == []
    for _ in range(3):
        ring.sealer()
    assert asked == [1]
    assert ring.index_key == KeyRing("text", {"text": text}, index=OLD).index_key
    assert ring.index_key != KeyRing("text", {"text": text}, index=NEW).index_key


def test_a_ring_comes_from_the_environment(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    environment(monkeypatch, **{"2026_05": OLD})
    app = StreamQ("shop", url)
    app.task(name="mail")(lambda to: to).enqueue(SECRET)
    assert SECRET.encode() not in stored(url)
    path = tmp_path / "ring.json"
    path.write_text(os.environ["STREAMQ_KEYS"])
    monkeypatch.setenv("STREAMQ_KEYS", str(path))
    assert KeyRing.from_environment() is not None
    for wrong in (
        "{}",
        "/nowhere",
        "[]",
        '{"current": "a", "keys": {"a": 3}}',
        '{"current": "a", "keys": {}, "x": 1}',
    ):
        monkeypatch.setenv("STREAMQ_KEYS", wrong)
        with pytest.raises(InvalidOption, match="the key ring") as caught:
            StreamQ("shop", url)
        assert wrong == "/nowhere" or wrong not in str(caught.value)


def test_what_is_no_ring_is_refused(url: str) -> None:
    with pytest.raises(InvalidOption, match="must be a KeyRing"):
        StreamQ("shop", url, keys={"a": OLD})  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert len(base64.b64decode(new_key())) == 32


async def test_keys_are_counted_and_dead_letters_sealed_anew(  # noqa: PLR0915 - before and after it
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Shop(url, before())
    done, dead = old.mail.enqueue("a"), old.fails.enqueue(SECRET)
    old.app.schedules.put("nightly", Every("1d"), old.mail.bind("b"))
    async with serving(old.app):
        await done.aresult(20)
        with pytest.raises(TaskDead):
            await dead.aresult(20)
    new = Shop(url, after())
    new.mail.enqueue("c")
    new.mail.options(delay="1h").enqueue("d")
    Shop(url, None).mail.enqueue("e")
    await _sleeps_on_a_memo(url)
    uses = {one.key: one for one in new.app.inspector.key_use()}
    assert (uses["2026-05"].waiting, uses["2026-05"].dead, uses["2026-05"].results) == (1, 1, 1)
    assert (uses["2026-05"].schedules, uses["2026-05"].total) == (1, 4)
    assert (uses["2026-11"].waiting, uses["2026-11"].total) == (2, 2)
    assert uses[""].waiting == 1
    assert {one.key: one for one in await new.app.ainspector.key_use()} == uses
    assert main(["keys", "audit", "--unused", "2026-05", "--url", url]) == 6
    out = capsys.readouterr().out
    assert out.splitlines()[-3].split() == ["2026-05", "1", "1", "1", "1"]
    assert main(["keys", "audit", "--unused", "2025-01", "--json", "--url", url]) == 0
    assert json.loads(capsys.readouterr().out)["keys"][0]["key"] == "2026-05"

    assert main(["keys", "reseal", "--yes", "--url", url]) == 2
    assert "there is no key ring here: set STREAMQ_KEYS" in capsys.readouterr().err
    environment(monkeypatch, **{"2026_11": NEW})
    assert main(["keys", "reseal", "fails", "--yes", "--url", url]) == 1
    assert "1 could not be: their keys are not in this ring" in capsys.readouterr().err
    environment(monkeypatch, **{"2026_11": NEW, "2026_05": OLD})
    assert main(["keys", "reseal", "--yes", "--json", "--url", url]) == 0
    assert json.loads(capsys.readouterr().out)["resealed"] == 1
    assert await new.app.aadmin.reseal(["fails"]) == (0, 0)
    only = Shop(url, KeyRing(current="2026-11", keys={"2026-11": NEW}))
    info = only.app.inspector.task(dead.id)
    assert json.loads(info.payload or b"") == {"to": SECRET}
    assert [one["message"] for one in info.failures] == [f"no such mailbox: {SECRET}"] * 2
    uses = {one.key: one for one in new.app.inspector.key_use()}
    assert (uses["2026-05"].dead, uses["2026-11"].dead) == (0, 1)
    assert next(one.verb for one in new.app.inspector.actions()) == "reseal"
    assert main(["keys", "new"]) == 0
    assert len(base64.b64decode(capsys.readouterr().out)) == 32
    clean(new.app)


def test_keys_of_signals_in_mailboxes_are_counted(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A key is in use while a task has not taken a signal that is sealed with it; one of a purged task is
    not."""
    plain, old = StreamQ("shop", url), Shop(url, before())
    handle = plain.send("steps", {"to": "ada"})
    assert plain.inspector.key_use() == [KeyUse("", waiting=1)]
    for name in ("approved", "approved", "other"):
        old.app.handle(handle.id).signal(name, SECRET)
    plain.send("steps", {"to": "bob"})
    uses = {one.key: one for one in plain.inspector.key_use()}
    assert (uses["2026-05"].waiting, uses["2026-05"].total, uses[""].waiting) == (1, 1, 1)
    assert main(["keys", "audit", "--unused", "2026-05", "--url", url]) == 6
    assert capsys.readouterr().out.splitlines()[-1].split() == ["2026-05", "1", "0", "0", "0"]
    assert handle.cancel() == "cancelled"
    assert main(["keys", "audit", "--unused", "2026-05", "--url", url]) == 0


async def _sleeps_on_a_memo(url: str) -> None:
    """A task that waits with a memo that is sealed with the old key, though its arguments are not sealed."""
    app = StreamQ("shop", url, keys=before())

    @app.task(name="sleeps")
    async def sleeps() -> None:
        await get_context().step("secret", lambda: SECRET)
        await get_context().sleep("1d")

    handle = StreamQ("shop", url).send("sleeps")
    async with serving(app):
        await until(lambda: app.inspector.task(handle.id).state == "scheduled")


async def test_signals_are_sealed_for_their_task(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = StreamQ("shop", url, keys=both())

    @app.task(name="waits", retention=60)
    async def waits() -> str:
        return str(await get_context().wait("word"))

    first, second = waits.enqueue(), waits.enqueue()
    assert first.signal("word", SECRET) == "stored"
    environment(monkeypatch, **{"2026_05": OLD})
    assert main(["task", "signal", second.id, "word", json.dumps(SECRET), "--url", url]) == 0
    assert SECRET.encode() not in stored(url)
    async with serving(app):
        assert await first.aresult(20) == await second.aresult(20) == SECRET
    clean(app)


def test_equal_names_with_different_rings_have_keys_of_their_own(url: str) -> None:
    one, two = StreamQ("shop", url, keys=before()), StreamQ("shop", url, keys=before())
    for app in (one, two):
        for keys in (shard_keys(app.name, 0), type_keys(app.name, 0, "email")):
            assert ring_of(keys.app) is ring_of(app.name)
    assert ring_of(shard_keys("shop", 0).app) is None
