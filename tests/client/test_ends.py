"""The end of a program and of an event loop: nothing is refused, and nothing is left open."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Coroutine

import pytest

from streamq import ResultTimeout, StreamQ, UsageError
from tests.conftest import command
from tests.running import wait_until

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
    program = [sys.executable, "-c", textwrap.dedent(EXIT), url, how]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
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


def _in_a_loop_that_is_just_closed(coroutine: Coroutine[object, object, None]) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(coroutine)
    loop.close()


def test_a_loop_that_was_just_closed_leaves_nothing_open(url: str) -> None:
    app = StreamQ("shop", url)

    async def use() -> None:
        await app.asend("email", {})

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(2):
            _in_a_loop_that_is_just_closed(use())
        asyncio.run(use())
        gc.collect()
    assert [str(one.message) for one in seen if one.category is ResourceWarning] == []


def test_a_loop_that_was_closed_while_it_waited_says_nothing(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio logged an error for the subscription's task: "Task was destroyed but it is pending!"."""
    app = StreamQ("shop", url)
    handle = app.send("email", {})

    async def wait() -> None:
        with pytest.raises(ResultTimeout):
            await handle.aresult(0.3)

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(2):
            _in_a_loop_that_is_just_closed(wait())
        asyncio.run(wait())
        gc.collect()
    assert [one.getMessage() for one in caplog.records if one.name == "asyncio"] == []
    assert [str(one.message) for one in seen if one.category is ResourceWarning] == []


def test_a_thread_that_waits_is_told_that_the_app_was_closed(url: str) -> None:
    """It was told CancelledError, and one that began to wait then would have waited for ever."""
    app = StreamQ("shop", url)
    handle = app.send("email", {})
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            handle.result(60)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: b"cmd=subscribe" in bytes(command(url, "CLIENT", "LIST")))  # type: ignore[call-overload]
    app.close()
    thread.join(20)
    assert [type(one) for one in raised] == [UsageError]
    assert "the app was closed while this thread waited" in str(raised[0])
    with pytest.raises(ResultTimeout):
        handle.result(0.05)
