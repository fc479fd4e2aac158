"""JSON that is nested deep, which can be read but not written: pages show it as text, edits refuse it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from streamq import PayloadError, StreamQ, envelope
from streamq.calls import producer as producer_calls
from streamq.cli import main
from streamq.dashboard import dashboard
from streamq.dashboard.redaction import Redaction
from streamq.depth import DEEPEST, deeper, too_deep
from streamq.model.outcome import Completed, Died
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.dashboard.shop import TRUSTED
from tests.dashboard.test_pages import client
from tests.lua.shard import Shard


def deep(levels: int) -> bytes:
    return b'{"a":' * (levels - 1) + b"[]" + b"}" * (levels - 1)


def test_the_limit_is_exact() -> None:
    assert not too_deep(deep(DEEPEST))
    assert too_deep(deep(DEEPEST + 1))
    assert not too_deep(orjson.dumps([[]] * 1000))
    assert not too_deep(b"[" * 5000)
    assert deeper(orjson.loads(deep(1000)))


@pytest.mark.parametrize("levels", [DEEPEST, 253, 254, 600, 1023])
async def test_what_another_program_stored_deep_is_shown(
    app: StreamQ, url: str, levels: int, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = Shard(SyncTransport(Address.parse(url)))
    shard.run(producer_calls.announce("shop", 1))
    for kind in ("dead", "completed", "ready"):
        shard.put(deep(levels))
        if kind != "ready":
            [delivery] = shard.fetch()
            ended = Died("attempts", b"[]") if kind == "dead" else Completed(deep(levels), 60_000)
            shard.settle([delivery], ended)
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        for state in ("ready", "dead", "completed"):
            told = (await browser.get(f"/api/tasks?state={state}")).json()["tasks"]
            paths = [f"/tasks/{one['id']}" for one in told] + [f"/api/tasks/{one['id']}" for one in told]
            for path in (f"/tasks?state={state}", "/dead", *paths):
                answer = await browser.get(path)
                assert answer.status_code == 200, (path, answer.text)
            for one in told:
                assert main(["task", "show", one["id"], "--json", "--url", url]) == 0
                assert orjson.loads(capsys.readouterr().out)["id"] == one["id"]


def test_an_edit_takes_what_enqueue_takes(app: StreamQ, url: str) -> None:
    @app.task
    def email(a: Any) -> None: ...

    value = orjson.loads(deep(DEEPEST))
    payload = email.handler.payload((value["a"],), {})
    assert payload == deep(DEEPEST)
    assert app.bound("elsewhere", value).task.payload == payload
    shard = Shard(SyncTransport(Address.parse(url)))
    shard.run(producer_calls.announce("shop", 1))
    shard.put(payload)
    [delivery] = shard.fetch()
    shard.settle([delivery], Died("attempts", b"[]"))
    dead = f"email:0:{delivery.local}"
    with pytest.raises(PayloadError, match="nested deeper than 200 levels"):
        app.admin.resubmit(dead, deep(DEEPEST + 1))
    with pytest.raises(PayloadError, match="nested deeper than 200 levels"):
        app.bound("elsewhere", {"b": value})
    assert app.admin.resubmit(dead, payload)


def test_a_deep_failure_that_another_program_stored_is_left_out() -> None:
    raw = b'[{"x":' + deep(400) + b"}]"
    assert envelope.failures(raw) == []
    assert envelope.add_failure(raw, attempt=1, at_ms=1, worker="w", error="E", message="", traceback="")
    assert Redaction().text(deep(400)).startswith('{"a":{"a":') or Redaction().text(deep(400)).startswith('"')
