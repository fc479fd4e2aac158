"""The command line as the tests run it: in this process, on the test's server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamq import StreamQ
from streamq.cli import main
from streamq.envelope import add_failure
from streamq.fingerprint import fingerprint
from streamq.model.outcome import Died
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.lua.shard import Shard

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def shard(url: str, monkeypatch: pytest.MonkeyPatch) -> Shard:
    """App `shop` with type `email` on the server that the commands find."""
    monkeypatch.setenv("STREAMQ_URL", url)
    StreamQ("shop", url).send("email", {"n": 0})
    return Shard(SyncTransport(Address.parse(url)))


def run(capsys: Capture, *args: str) -> tuple[int, str, str]:
    code = main(args)
    out = capsys.readouterr()
    return code, out.out, out.err


def as_json(capsys: Capture, *args: str) -> Any:
    code, out, _ = run(capsys, *args, "--json")
    assert code == 0
    return json.loads(out)


def bury(shard: Shard, error: str = "ValueError", message: str = "no \x1b[31m") -> list[str]:
    """Let everything that is ready die of an error; answers the ids."""
    deliveries = shard.fetch()
    failures = add_failure(
        b"",
        attempt=1,
        at_ms=1_700_000_000_000,
        worker="w1",
        error=error,
        message=message,
        traceback="tb",
    )
    shard.settle(deliveries, Died("attempts", failures, fingerprint=fingerprint(error, None)))
    return [f"{shard.t.type}:{shard.t.shard}:{d.local}" for d in deliveries]
