"""Compression: what is long and becomes a tenth smaller is stored compressed, and only the server notices. A
bomb is a dead letter and costs no memory."""

from __future__ import annotations

import importlib
import json
import os
import tracemalloc
import zlib
from typing import Any

import pytest
from backports import zstd

from streamq import DecodeError, InvalidOption, StreamQ, TaskDead, UsageError
from streamq.cli import main
from streamq.payloads import compression
from streamq.payloads.compression import Compression
from streamq.payloads.pipeline import KNOWN, opened
from streamq.payloads.stage import MOST, About, UnknownEncoding
from tests.conftest import command
from tests.letters import all_dead
from tests.payloads.test_stages import stored
from tests.running import clean, serving, until

LONG = "the same again and again, " * 200
BOMB = 10_000_000
KINDS: list[Compression] = ["zlib", "zstd"]


def echoing(url: str, kind: Compression | None) -> tuple[StreamQ, Any]:
    app = StreamQ("shop", url, compression=kind)

    @app.task(retention=60, max_attempts=1)
    async def echo(text: str) -> str:
        if text.startswith("fail"):
            raise ValueError(text)
        return text

    return app, echo


def marked(kind: str, body: bytes) -> bytes:
    return b"\x1f%b\x1f%b%b" % (kind.encode(), len(body).to_bytes(4, "little"), body)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_long_is_compressed_and_read_everywhere(
    url: str, kind: Compression, capsys: pytest.CaptureFixture[str]
) -> None:
    app, echo = echoing(url, kind)
    plain, _ = echoing(url, None)
    handle = echo.enqueue(LONG)
    fields = app.inspector.task(handle.id).fields
    assert fields["p"].startswith(b"\x1f%b\x1f" % kind.encode())
    assert len(fields["p"]) < len(LONG) / 20
    failed = echo.enqueue("fail" + LONG)
    async with serving(plain):  # a worker of programs that do not compress reads it too
        assert await handle.aresult(20) == LONG
        with pytest.raises(TaskDead):
            await failed.aresult(20)
    other = plain.handle(handle.id)
    assert await other.aresult(5) == LONG
    async with serving(app):
        assert await echo.enqueue(LONG).aresult(20) == LONG
    assert LONG.encode() not in stored(url).replace(json.dumps(LONG).encode(), b"")
    assert main(["task", "show", failed.id, "--url", url]) == 0
    assert "the same again" in capsys.readouterr().out
    assert main(["dead", "edit", failed.id, json.dumps({"text": LONG}), "--url", url]) == 0
    new = capsys.readouterr().out.strip()
    assert app.inspector.task(new).fields["p"][:1] == b"\x1f"
    async with serving(app):
        assert await app.handle(new).aresult(20) == LONG
    clean(app)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_short_or_does_not_shrink_stays_as_it_is(url: str, kind: Compression) -> None:
    stage, about = KNOWN[kind], About("shop", "echo", "payload")
    noise = bytes(range(256)) * 4 + zlib.compress(LONG.encode() * 50)
    assert stage.seal(b"a" * 1023, about) is None
    assert stage.seal(b"a" * (MOST + 1), about) is None
    assert stage.seal(os.urandom(5000), about) is None
    assert (sealed := stage.seal(noise + b"a" * 1024, about)) is not None
    assert stage.open(sealed, about) == noise + b"a" * 1024
    app, echo = echoing(url, kind)
    assert app.inspector.task(echo.enqueue("short").id).fields["p"] == b'{"text":"short"}'


@pytest.mark.parametrize("kind", KINDS)
def test_a_bomb_does_not_go_off(kind: Compression) -> None:
    bomb = (zlib if kind == "zlib" else zstd).compress(bytes(BOMB))
    tracemalloc.start()
    with pytest.raises(DecodeError, match="more than 1,048,576 bytes") as caught:
        opened(marked(kind, bomb), About("shop", "echo", "payload", most=1 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000
    assert caught.value.reason == "encoding"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_bomb_is_a_dead_letter(url: str, kind: Compression) -> None:
    app, echo = echoing(url, kind)
    bomb = marked(kind, (zlib if kind == "zlib" else zstd).compress(bytes(BOMB)))
    good = echo.enqueue("good")
    command(url, "XADD", "streamq:{shop:0}:echo:normal", "*", "p", bomb)
    command(url, "HINCRBY", "streamq:{shop:0}:echo:counters", "accepted", 1)
    async with serving(app):
        assert await good.aresult(20) == "good"
        await until(lambda: len(all_dead(app.inspector, "echo")) == 1)
    [letter] = all_dead(app.inspector, "echo")
    assert letter.reason == "encoding"
    clean(app)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_damaged_is_told(kind: Compression) -> None:
    sealed = KNOWN[kind].seal(LONG.encode(), About("shop", "echo", "payload")) or b""
    for damaged in (sealed[:-1], sealed + b"x", b"", b"\0" * 50):
        with pytest.raises(DecodeError, match="cannot be decoded") as caught:
            opened(marked(kind, damaged))
        assert not isinstance(caught.value, UnknownEncoding)


async def test_a_worker_without_zstd_hands_it_back(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app, echo = echoing(url, "zstd")
    handle = echo.enqueue(LONG)
    compression._zstd.cache_clear()
    plain, _ = echoing(url, None)
    with monkeypatch.context() as without:
        without.setattr(importlib, "import_module", _without(importlib.import_module))
        async with serving(plain):
            await until(lambda: plain.inspector.task(handle.id).state == "scheduled")
        with pytest.raises(UsageError, match=r"pip install 'streamq\[zstd\]'"):
            echoing(url, "zstd")
    compression._zstd.cache_clear()
    app.admin.run_now(handle.id)
    async with serving(plain):
        assert await handle.aresult(20) == LONG
    assert app.inspector.task(handle.id).attempts_failed == 0


def _without(real: Any) -> Any:
    def importing(name: str, *more: Any) -> Any:
        if "zstd" in name:
            raise ImportError(name)
        return real(name, *more)

    return importing


def test_another_name_is_refused(url: str) -> None:
    with pytest.raises(InvalidOption, match="compression='lz4': must be one of zlib, zstd"):
        StreamQ("shop", url, compression="lz4")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
