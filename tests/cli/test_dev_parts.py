"""The pieces of `streamq dev` one by one: which files count, what sample tasks are called with."""

from __future__ import annotations

import asyncio
import enum
import re
import socket
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pytest
import watchfiles

from streamq.dev import example, watch
from streamq.dev.plan import Plan
from streamq.dev.session import free_port
from streamq.errors import CannotListen, UsageError


@pytest.mark.parametrize("refused", [False, True])
async def test_saved_files_are_noticed(
    refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the system refuses to watch, as when its watches are used up."""
    awatch = watchfiles.awatch

    def limited(*roots: Path, force_polling: bool | None, **options: Any) -> Any:
        if refused and not force_polling:
            raise OSError("OS file watch limit reached")
        return awatch(*roots, force_polling=force_polling, **options)

    monkeypatch.setattr(watchfiles, "awatch", limited)
    for name in (".hidden", "__pycache__", "venv", "package"):
        (tmp_path / name).mkdir()
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    (tmp_path / "tasks.py").write_text("1")
    stop, seen = asyncio.Event(), list[str]()

    async def listen() -> None:
        async for files in watch.changes([tmp_path], stop):
            seen.extend(str(Path(file).relative_to(tmp_path)) for file in files)

    listening = asyncio.create_task(listen())
    n = 0
    while "package/more.py" not in seen:  # the first looks may come before it listens
        n += 1
        for name in (
            ".hidden/a.py",
            "__pycache__/a.py",
            "venv/a.py",
            "notes.txt",
            "tasks.py",
            "package/more.py",
        ):
            (tmp_path / name).write_text(f"{n}" * n)
        await asyncio.sleep(0.1)
    stop.set()
    await asyncio.wait_for(listening, 10)
    assert set(seen) == {"tasks.py", "package/more.py"}


async def test_what_cannot_be_watched_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot watch /no/such: "):
        await anext(watch.changes([Path("/no/such")], asyncio.Event()))


def test_without_watchfiles(monkeypatch: pytest.MonkeyPatch) -> None:
    watch.require()
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(UsageError, match=re.escape("needs watchfiles: pip install 'streamq[dev-server]'")):
        watch.require()


def test_which_folders_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (there / "shop").mkdir(parents=True)
    (there / "shop" / "__init__.py").touch()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(str(there))
    assert watch.folders("tasks:app", []) == [here]
    assert watch.folders("shop.tasks:app", []) == [here, there / "shop"]
    assert watch.folders("pytest:app", [here]) == [here]


class Colour(enum.Enum):
    RED = "red"


def test_arguments_are_made_up_from_the_signature() -> None:
    def plain(name: str, n: int, *, ok: bool, when: datetime, more: list[int], colour: Colour) -> None: ...
    def untyped(name, rest=3, *args, **kwargs): ...  # type: ignore[no-untyped-def]
    def either(one: bytes | int, two: Literal["a", "b"], three: str | None) -> None: ...
    def neither(one: object) -> None: ...
    def pair(one: tuple[int, str]) -> None: ...

    found = example.arguments(plain)
    assert found is not None
    assert (found["name"], found["n"], found["ok"], found["more"]) == ("sample name", 1, True, [])
    assert found["colour"] is Colour.RED
    assert example.arguments(untyped) == {"name": "sample name"}
    assert example.arguments(either) == {"one": 1, "two": "a", "three": "sample three"}
    assert example.arguments(neither) is None
    assert example.arguments(pair) is None


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"port {port} is taken: choose another with --port"):
            free_port(port, 1, "--port")
        assert free_port(None, port, "--port") not in (port, 0)


def test_the_arguments_of_a_part_have_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody on the host can read them; the environment only its user."""
    plan = Plan("tasks:app", "redis://ada:hunter2@h/0", port=8675)
    monkeypatch.setenv("STREAMQ_URL", plan.url)
    assert "hunter2" not in plan.text()
    read = Plan.parse(plan.text())
    assert (read.url, read.port, read.mark) == (plan.url, plan.port, plan.mark)
