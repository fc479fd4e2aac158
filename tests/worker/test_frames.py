"""The frame that is kept with a failure: of the exception's own traceback, whatever its message says."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from streamq import StreamQ, TaskDead
from streamq.fingerprint import frame_of
from tests.running import working
from tests.worker import handlers

FORGED = (
    "no\nTraceback (most recent call last):\n"
    '  File "/srv/shop/forged.py", line 1, in forged{n}\n    forged({n})\nValueError: no'
)


async def dead(handles: list[Any]) -> None:
    for handle in handles:
        with pytest.raises(TaskDead):
            await handle.aresult(20)


async def test_a_message_makes_no_groups_in_a_process_of_the_worker(app: StreamQ) -> None:
    @app.task(max_attempts=1)
    async def email(text: str) -> None:
        raise RuntimeError(text)

    async with working(app):
        await dead([await email.aenqueue(FORGED.format(n=n)) for n in range(4)])
    [group] = app.inspector.dead_groups("email").groups
    assert group.count == 4
    assert group.place.endswith("in email")
    assert group.framed
    frame = app.inspector.task(group.sample).failures[-1]["frame"]
    assert frame["file"] == __file__
    assert frame["text"] == "raise RuntimeError(text)"


async def test_a_message_makes_no_groups_in_a_child_process(url: str) -> None:
    app = handlers.at(url)
    async with working(app):
        await dead([await handlers.fails.aenqueue(FORGED.format(n=n)) for n in range(3)])
    [group] = app.inspector.dead_groups("fails").groups
    assert group.count == 3
    assert group.place == f"worker/handlers.py:{_line_of_fails()} in fails"


def _line_of_fails() -> int:
    lines = Path(handlers.__file__).read_text().splitlines()
    return lines.index("    raise RuntimeError(text)") + 1


async def test_where_a_timed_out_attempt_stood_is_its_frame(app: StreamQ) -> None:
    @app.task(max_attempts=1, timeout=0.2)
    async def slow() -> None:
        await asyncio.sleep(30)

    async with working(app):
        await dead([await slow.aenqueue()])
    [group] = app.inspector.dead_groups("slow").groups
    assert group.place.endswith("in slow"), group.place
    assert frame_of(app.inspector.task(group.sample).failures[-1]) is not None
