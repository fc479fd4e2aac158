"""A stage between JSON and what is stored: who writes uses it, who reads, shows or edits goes through it.
What went through a stage that is not known is told as such: never shown as bytes, edited or run."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from streamq import (
    DeadSelection,
    DecodeError,
    InvalidArguments,
    PayloadError,
    StreamQ,
    TaskDead,
    TaskFilter,
)
from streamq.cli import main
from streamq.dashboard import dashboard
from streamq.dashboard.redaction import Redaction
from streamq.payloads import reading
from streamq.payloads.pipeline import KNOWN, Pipeline, opened, pipeline_of, sealed_length
from streamq.payloads.stage import About, UnknownEncoding
from tests.conftest import command
from tests.dashboard.shop import TRUSTED
from tests.dashboard.test_pages import client
from tests.running import clean, serving, until

TEXT = "a secret of the customer"
WORDS = "it has an encoding that this release does not know: mark 'squeezed'"


class Zlib:
    """Compresses. What comes out has any byte in it."""

    mark = "squeezed"

    def seal(self, raw: bytes, about: About) -> bytes:
        return zlib.compress(raw)

    def open(self, sealed: bytes, about: About | None) -> bytes:
        return zlib.decompress(sealed)


class Salted:
    """Never seals twice the same, as encryption does."""

    mark = "salted"

    def seal(self, raw: bytes, about: About) -> bytes:
        salt = os.urandom(1)
        return salt + bytes(byte ^ salt[0] for byte in raw)

    def open(self, sealed: bytes, about: About | None) -> bytes:
        return bytes(byte ^ sealed[0] for byte in sealed[1:])


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    for stage in (Zlib(), Salted()):
        monkeypatch.setitem(KNOWN, stage.mark, stage)


class Sealed:
    """An app whose programs store through both stages, with a task that completed and one that died."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.app = StreamQ("shop", url)
        self.app.registry.pipeline = Pipeline(Salted(), Zlib())
        self.seen: list[str] = []
        self.works: Any = self.app.task(name="works", retention=60)(self._works)
        self.fails: Any = self.app.task(name="fails", max_attempts=1)(self._fails)
        self.done = self.dead = ""

    def _works(self, text: str) -> dict[str, str]:
        self.seen.append(text)
        return {"text": text}

    def _fails(self, text: str, password: str = "hunter2") -> None:  # noqa: S107
        raise ValueError(f"{text} {password}")

    async def run(self) -> None:
        done, dead = await self.works.aenqueue(TEXT), await self.fails.aenqueue(TEXT)
        async with serving(self.app):
            assert await done.aresult(20) == {"text": TEXT}
            with pytest.raises(TaskDead, match=TEXT):
                await dead.aresult(20)
        self.done, self.dead = done.id, dead.id


def stored(url: str) -> bytes:
    """All that is on the server, in one."""
    found = b""
    for key in command(url, "KEYS", "*"):  # type: ignore[attr-defined]
        dumped = command(url, "DUMP", key)
        found += dumped if isinstance(dumped, bytes) else b""
    return found


@pytest_asyncio.fixture
async def sealed(url: str) -> AsyncIterator[Sealed]:
    found = Sealed(url)
    await found.run()
    yield found


async def test_nothing_is_stored_in_clear_and_all_readers_show_it(
    sealed: Sealed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert TEXT.encode() not in stored(sealed.url)
    assert sealed.seen == [TEXT]
    other = StreamQ("shop", sealed.url)  # a program that only reads knows the stages by their marks
    assert await other.handle(sealed.done).aresult(5) == {"text": TEXT}
    dead, done = other.inspector.task(sealed.dead), other.inspector.task(sealed.done)
    assert json.loads(dead.payload or b"") == {"text": TEXT}
    assert json.loads(done.result or b"") == {"text": TEXT}
    assert done.success is not None
    assert dead.failures[0]["message"] == f"{TEXT} hunter2"
    assert "_fails" in dead.failures[0]["traceback"]
    [row] = other.inspector.tasks("dead", "fails", filter=TaskFilter(error=TEXT)).rows
    assert (row.payload, row.payload_size) == (dead.payload, len(dead.payload or b""))
    [row] = other.inspector.tasks("completed", "works").rows
    assert row.result == done.result
    [group] = other.inspector.dead_groups("fails").groups
    assert (group.message, group.payload) == (f"{TEXT} hunter2", dead.payload)
    assert group.place
    for words in (
        ["task", "show", sealed.dead],
        ["dead", "show", sealed.dead],
        ["task", "list", "completed"],
    ):
        for form in ([], ["--json"]):
            assert main([*words, *form, "--url", sealed.url]) == 0
            assert TEXT in capsys.readouterr().out
    clean(other)


async def test_the_dashboard_shows_and_redacts_it(sealed: Sealed) -> None:
    async with client(dashboard(sealed.app, auth=TRUSTED)) as browser:
        for path in ("/tasks/{}", "/api/tasks/{}"):
            for task in (sealed.dead, sealed.done):
                assert TEXT in (await browser.get(path.format(task))).text
        assert 'name="payload"' in (await browser.get(f"/tasks/{sealed.dead}")).text
        assert TEXT in (await browser.get("/tasks?state=completed")).text
    private = dashboard(sealed.app, auth=TRUSTED, redact=["text"])
    async with client(private) as browser:
        for path in (f"/tasks/{sealed.dead}", f"/tasks/{sealed.done}", "/dead", "/tasks?state=completed"):
            answer = await browser.get(path)
            assert answer.status_code == 200
            assert TEXT not in answer.text


async def test_what_is_edited_goes_through_the_same_stages(
    sealed: Sealed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dead", "edit", sealed.dead, '{"text": "edited"}', "--url", sealed.url]) == 0
    new = capsys.readouterr().out.strip()
    info = sealed.app.inspector.task(new)
    assert json.loads(info.payload or b"") == {"text": "edited"}
    assert info.fields["p"][:1] == b"\x1f"
    assert b"edited" not in info.fields["p"]
    assert sealed.app.admin.requeue_selected(DeadSelection("fails")) == 0


async def test_one_that_is_long_is_cut_in_lists(sealed: Sealed) -> None:
    long = "".join(map(str, os.urandom(4000)))
    handle = sealed.works.enqueue(long)
    [row] = sealed.app.inspector.tasks("ready", "works").rows
    assert row.whole_payload is None
    assert "too long to be decoded here" in reading.shown(row.payload)
    assert json.loads(sealed.app.inspector.task(handle.id).payload or b"") == {"text": long}


def test_a_name_of_a_task_is_told_by_what_was_sent(url: str) -> None:
    sealed = Sealed(url)
    keyed = sealed.works.options(idempotency_key="order 7")
    first = keyed.enqueue(TEXT)
    assert keyed.enqueue(TEXT).id == first.id
    assert sealed.app.send("works", {"text": TEXT}, idempotency_key="order 7").duplicate
    assert sealed.app.send("elsewhere", {"text": TEXT}).id
    assert TEXT.encode() not in stored(sealed.url)
    with pytest.raises(InvalidArguments):
        sealed.works.enqueue()


async def test_what_is_not_known_is_told_as_such(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = sealed.works.enqueue("never")
    monkeypatch.delitem(KNOWN, "squeezed")
    inspector = sealed.app.inspector
    for task in (sealed.dead, sealed.done):
        info = inspector.task(task)
        assert reading.shown(info.payload if info.result is None else info.result) == WORDS
    assert (
        inspector.task(sealed.dead).failures[0] | {"message": WORDS, "traceback": ""}
        == (inspector.task(sealed.dead).failures[0])
    )
    with pytest.raises(DecodeError, match="does not know: mark 'squeezed'"):
        await sealed.app.handle(sealed.done).aresult(5)
    with pytest.raises(PayloadError, match="cannot be edited: it has an encoding"):
        sealed.app.admin.resubmit(sealed.dead, b'{"text": "x"}')
    assert main(["dead", "edit", sealed.dead, '{"text": "x"}', "--url", sealed.url]) != 0
    capsys.readouterr()
    for words in (
        ["task", "show", sealed.dead],
        ["task", "show", sealed.done, "--json"],
        ["task", "list", "ready"],
    ):
        assert main([*words, "--url", sealed.url]) == 0
        out = capsys.readouterr().out
        assert "it has an encoding that" in out
        assert "\\u001f" not in out
        assert "\x1f" not in out
    assert Redaction().value(inspector.task(sealed.dead).payload) == WORDS
    async with client(dashboard(sealed.app, auth=TRUSTED)) as browser:
        page = (await browser.get(f"/tasks/{sealed.dead}")).text
        assert "does not know" in page
        assert 'name="payload"' not in page
    with capture_logs() as log:
        async with serving(sealed.app):
            await until(lambda: inspector.task(waiting.id).state == "scheduled")
    assert [entry["needs"] for entry in log if entry["event"] == "task.too_new"] == ["payload:squeezed"]
    assert sealed.seen == [TEXT]
    assert inspector.task(waiting.id).fields["k"] == b"1"
    monkeypatch.setitem(KNOWN, "squeezed", Zlib())
    sealed.app.admin.run_now(waiting.id)
    async with serving(sealed.app):
        assert await waiting.aresult(20) == {"text": "never"}
    assert inspector.task(waiting.id).attempts_failed == 0


def test_without_a_stage_nothing_is_called(url: str) -> None:
    app = StreamQ("shop", url)
    handle = app.task(name="works")(lambda text: text).enqueue(TEXT)
    assert TEXT.encode() in stored(url)
    assert app.inspector.task(handle.id).fields["p"] == b'{"text":"%b"}' % TEXT.encode()


def test_what_looks_sealed_and_is_not_is_what_it_is() -> None:
    sealed = Pipeline(Zlib()).seal(b"{}", About("shop", "works", "payload"))
    assert (opened(sealed), sealed_length(sealed + b"note")) == (b"{}", len(sealed))
    for raw in (b"", b"\x1f", b"\x1fzlib", b"\x1f\x1f\0\0\0\0", b"\x1fA\x1f\0\0\0\0{}", b'{"a":1}', b"\x1e"):
        assert (opened(raw), pipeline_of(raw), sealed_length(raw)) == (raw, None, 0)
    for damaged in (sealed[:-1], sealed[:12] + b"x" * (len(sealed) - 12)):
        with pytest.raises(DecodeError) as caught:
            opened(damaged)
        assert not isinstance(caught.value, UnknownEncoding)
