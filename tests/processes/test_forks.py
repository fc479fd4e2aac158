"""Handlers that fork: the child must not go on as a second copy of its worker."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from streamq import StreamQ
from streamq.exit_codes import FORKED
from tests.running import clean, wait_until


@pytest.mark.parametrize("task_type", ["forks_on_loop", "forks_in_thread", "forks_in_process"])
def test_a_forked_child_ends_where_its_handler_does(
    jobs: StreamQ, worker: Callable[..., subprocess.Popen[bytes]], task_type: str
) -> None:
    """Guard: Settler.put in a child, and the process ids beside the calls in executors and child."""
    worker("--concurrency", "2")
    assert jobs.send(task_type).result(20) == FORKED
    assert jobs.send("work", {"seconds": 0.01}).result(20)  # the worker itself goes on as before
    clean(jobs)


def test_a_handler_that_ignores_its_end_does_not_keep_its_process(
    jobs: StreamQ, worker: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """Guard: the process ends within its event loop, whose closing would wait for the handler."""
    process = worker("--drain-timeout", "200ms")
    handle = jobs.send("ignores_its_end")
    wait_until(lambda: handle.status() == "running")
    process.terminate()
    assert process.wait(30) == 0
