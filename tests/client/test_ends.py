"""The end of a program and of an event loop: nothing is refused, and nothing is left open."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable

import pytest

from streamq import StreamQ

EXIT = """
    import asyncio, atexit, sys, threading
    from streamq import StreamQ

    app = StreamQ("shop", sys.argv[1])

    def bye():
        handles = app.enqueue_many([app.bound("email", {"n": n}) for n in range(700)])
        print(len(handles), app.send("email", {}).status())

    async def abye():
        print(1, await (await app.asend("email", {})).astatus())
        await app.aclose()

    def late():
        threading.main_thread().join()
        bye()

    if sys.argv[2] == "atexit":
        atexit.register(bye)
    elif sys.argv[2] == "async":
        atexit.register(lambda: asyncio.run(abye()))
    else:
        threading.Thread(target=late).start()
"""


@pytest.mark.parametrize("how", ["atexit", "async", "thread"])
def test_the_first_call_may_be_the_last(url: str, how: str) -> None:
    """Modules that are loaded with the first call may not be told of an end that has begun."""
    command = [sys.executable, "-c", textwrap.dedent(EXIT), url, how]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stderr == ""
    assert ended.stdout.split()[1] == "ready"


def _loops() -> list[Callable[[], asyncio.AbstractEventLoop]]:
    try:
        import uvloop
    except ImportError:
        return [asyncio.new_event_loop]
    return [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.mark.parametrize("make", _loops())
def test_an_app_of_two_event_loops_leaves_nothing_open(
    url: str, make: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    app = StreamQ("shop", url)

    async def use() -> None:
        await asyncio.gather(*(app.asend("email", {}) for _ in range(3)))

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            with asyncio.Runner(loop_factory=make) as runner:
                runner.run(use())
            gc.collect()
    assert [str(one.message) for one in seen if one.category is ResourceWarning] == []


def test_a_loop_that_was_just_closed_leaves_nothing_open(url: str) -> None:
    app = StreamQ("shop", url)

    async def use() -> None:
        await app.asend("email", {})

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(2):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(use())
            loop.close()
        asyncio.run(use())
        gc.collect()
    assert [str(one.message) for one in seen if one.category is ResourceWarning] == []
