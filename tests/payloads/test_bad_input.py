"""What somebody else wrote in the place of a memo, a signal, a result or a failure: another key, a changed
byte, a bomb, damage. It costs that task only, each error says what failed, and what another worker can read
waits for it."""

from __future__ import annotations

import importlib
import json
import pickle
import zlib
from base64 import b64encode
from typing import Any

import pytest

from streamq import DecodeError, StreamQ, TaskDead, WorkerOptions, get_context
from streamq.client.signals import about as about_signal
from streamq.model.task import TaskId
from streamq.payloads.pipeline import pipeline_for
from streamq.payloads.stage import About, NoKey, UnknownEncoding
from streamq.worker import too_new
from tests.conftest import command
from tests.letters import all_dead
from tests.payloads.test_sealing import after, before, both
from tests.running import until, work_off, working

BOMBS = {"result": 65 << 20}
"""Bytes of zeros: more than each may have."""
ELSEWHERE = {"key": "sealed with key '2026-11', which is not given here", "mark": "mark 'rot13'"}
"""What another worker can read, and what the log says of it."""
NOWHERE = {
    "tampered": ("tampered", "the seal .* does not hold"),
    "bomb": ("encoding", r"it decompresses to more than [\d,]+ bytes"),
    "damaged": ("encoding", "it cannot be decoded"),
}
"""What nobody can read: the reason of the dead letter, and its message."""


def encoded(mark: str, body: bytes) -> bytes:
    return b"\x1f%b\x1f%b%b" % (mark.encode(), len(body).to_bytes(4, "little"), body)


def bad(kind: str, raw: bytes, about: About) -> bytes:
    """Return a value as it stands on the server, of this kind of badness."""
    pipeline = pipeline_for(None, sealed=True)
    assert pipeline is not None
    match kind:
        case "key" | "tampered":
            app = StreamQ("shop", keys=after() if kind == "key" else both())  # kept: its name has the ring
            sealed = pipeline.seal(raw, about._replace(app=app.name))
            return sealed if kind == "key" else sealed[:-1] + bytes([sealed[-1] ^ 1])
        case "mark":
            return encoded("rot13", raw)
        case "bomb":
            return encoded("zlib", zlib.compress(bytes(BOMBS.get(about.purpose, 9 << 20)), 1))
        case _:
            return encoded("zlib", b"not zlib")


def replace(url: str, old: bytes, new: bytes) -> None:
    """Overwrite a text wherever it stands in a hash."""
    found: Any = command(url, "KEYS", "*")
    hashes = [key for key in found if str(command(url, "TYPE", key)) in ("hash", "b'hash'")]
    rows = [(key, command(url, "HGETALL", key)) for key in hashes]
    places: Any = [(key, row[n], row[n + 1]) for key, row in rows for n in range(0, len(row), 2)]  # type: ignore[arg-type,index]
    hit = [(key, name, value) for key, name, value in places if old in value]
    assert hit
    for key, name, value in hit:
        command(url, "HSET", key, name, value.replace(old, new))


class Shop:
    """A task that has a memo, and then sleeps or waits for a signal."""

    def __init__(self, url: str, ring: Any = None) -> None:
        self.calls = 0
        self.app = StreamQ("shop", url, keys=ring)
        self.task: Any = self.app.task(name="task", retention=600, max_attempts=2)(self._run)

    async def _run(self, waits: bool) -> str:
        if waits:
            return str(await get_context().wait("word", str))
        found = await get_context().step("memo", self._step)
        await get_context().sleep("1h")
        return found

    def _step(self) -> str:
        self.calls += 1
        return "secret"


def stopped(url: str, where: str, kind: str) -> tuple[Shop, Any]:
    """Return an app, and a task of it that will find a bad memo or a bad signal at its next attempt."""
    shop = Shop(url, before())
    handle = StreamQ("shop", url).send("task", {"waits": where == "signal"})
    if where == "signal":
        about = about_signal(shop.app.name, TaskId.parse(handle.id), "word")
        StreamQ("shop", url).handle(handle.id).signal("word", "secret")
    else:
        about = About(shop.app.name, "task", "memo", f"{handle.id}\0memo")
        work_off(Shop(url).app)
        shop.app.admin.run_now(handle.id)
    replace(url, b'"secret"', bad(kind, b'"secret"', about))
    return shop, shop.app.handle(handle.id)


@pytest.mark.parametrize("where", ["memo", "signal"])
@pytest.mark.parametrize("kind", list(ELSEWHERE))
def test_what_another_worker_can_read_waits_for_it(
    url: str, where: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shop, handle = stopped(url, where, kind)
    work_off(shop.app)
    info = shop.app.inspector.task(handle.id)
    assert (info.state, info.attempts_failed, info.fields["k"]) == ("scheduled", 0, b"1")
    told = capsys.readouterr().err
    assert "task.too_new" in told
    assert "without counting an attempt" in told
    assert ("key:2026-11" if kind == "key" else "payload:rot13") in told
    if kind == "key":
        shop.app.admin.run_now(handle.id)
        newer = Shop(url, after())
        work_off(newer.app)
        newer.app.admin.run_now(handle.id)
        work_off(newer.app)
        assert newer.app.handle(handle.id).result(5) == "secret"
        assert newer.calls == 0


@pytest.mark.parametrize("where", ["memo", "signal"])
def test_a_key_of_a_memo_that_nobody_has_is_a_dead_letter_after_an_hour(
    url: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(too_new, "HOUR", 0)
    shop, handle = stopped(url, where, "key")
    work_off(shop.app)
    with pytest.raises(TaskDead, match=ELSEWHERE["key"]) as dead:
        handle.result(5)
    assert dead.value.reason == "key"


@pytest.mark.parametrize("where", ["memo", "signal"])
@pytest.mark.parametrize("kind", list(NOWHERE))
def test_what_nobody_can_read_is_a_dead_letter_of_its_own(url: str, where: str, kind: str) -> None:
    shop, handle = stopped(url, where, kind)
    good = shop.task.enqueue(True)
    good.signal("word", "well")
    work_off(shop.app)
    reason, message = NOWHERE[kind]
    what = "the memo of step 'memo'" if where == "memo" else "the value of the signal 'word'"
    with pytest.raises(TaskDead, match=f"{what} of task {handle.id} cannot be read: .*{message}") as dead:
        handle.result(5)
    assert dead.value.reason == reason
    assert shop.calls == 0
    assert good.result(5) == "well"
    [letter] = all_dead(shop.app.inspector, "task")
    assert shop.app.admin.requeue([str(letter.id)]) == 1  # nothing of it is lost


@pytest.mark.parametrize("kind", [*ELSEWHERE, *NOWHERE])
def test_a_bad_result_is_told_by_its_task(url: str, kind: str) -> None:
    shop = Shop(url, before())
    ones = [StreamQ("shop", url).send("task", {"waits": True}) for _ in range(2)]
    for n, one in enumerate(ones):
        one.signal("word", ("secret", "other")[n])
    work_off(Shop(url).app)
    about = About(shop.app.name, "task", "result", ones[0].id)
    replace(url, b'"secret"', bad(kind, b'"secret"', about))
    message = ELSEWHERE.get(kind) or NOWHERE[kind][1]
    with pytest.raises(DecodeError, match=f"cannot read the result of task {ones[0].id}: .*{message}"):
        shop.app.handle(ones[0].id).result(5)
    assert shop.app.handle(ones[1].id).result(5) == "other"
    rows = shop.app.inspector.tasks("completed").rows
    assert {row.id for row in rows} == {one.id for one in ones}


@pytest.mark.parametrize("kind", [*ELSEWHERE, *NOWHERE])
def test_a_bad_failure_hides_neither_the_task_nor_its_other_failures(url: str, kind: str) -> None:
    shop = Shop(url, before())
    about = About(shop.app.name, "task", "failure")
    texts = json.dumps({"message": "secret", "traceback": ""}).encode()
    stored = b64encode(bad(kind, texts, about)).decode()
    work_off(shop.app)  # which registers the type
    listed = [{"error": "ValueError", "sealed": stored}, {"error": "KeyError", "message": "plain"}]
    key = "streamq:{shop:0}:task:normal"
    command(url, "XADD", key, "*", "p", '{"waits":true}', "a", "1", "f", json.dumps(listed))
    command(url, "HINCRBY", "streamq:{shop:0}:task:counters", "accepted", 1)
    [row] = shop.app.inspector.tasks("ready").rows
    failures = shop.app.inspector.task(row.id).failures
    assert [one["error"] for one in failures] == ["ValueError", "KeyError"]
    assert failures[1]["message"] == "plain"
    wanted = ELSEWHERE.get(kind, "").partition("'")[0] or NOWHERE[kind][1].partition(" ")[0]
    assert wanted.strip() in failures[0]["message"]
    shop.app.handle(row.id).signal("word", "well")
    work_off(shop.app)
    assert shop.app.handle(row.id).result(5) == "well"


def test_an_unread_value_is_told_across_processes() -> None:
    """A child process finds it, and its parent hands the task back."""
    for error in (NoKey("2026-11"), UnknownEncoding("no such mark", "rot13")):
        again = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


@pytest.mark.long
async def test_a_child_process_hands_back_what_it_cannot_read(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMQ_URL", url)
    module = importlib.import_module("tests.payloads.apart")
    app = module.app
    app._move_to(StreamQ("shop", url).address)
    handle = app.send("apart")
    async with working(app, WorkerOptions(process_slots=1)):
        await until(lambda: app.inspector.task(handle.id).suspended is not None)
        about = About(StreamQ("shop", keys=after()).name, "apart", "memo", f"{handle.id}\0memo")
        replace(url, b'"secret"', bad("key", b'"secret"', about))
        handle.signal("go")
        await until(lambda: app.inspector.task(handle.id).fields.get("k") == b"1")
    info = app.inspector.task(handle.id)
    assert (info.state, info.attempts_failed) == ("scheduled", 0)
