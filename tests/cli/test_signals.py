"""Signals that end a command: an event that they set is set whatever the main thread does just then."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

_PROGRAM = """
import os, signal, sys, threading
from streamq.cli import signals

wait, number = threading.Condition.wait, int(sys.argv[1])

def interrupted(condition, timeout=None):
    os.kill(os.getpid(), number)  # the lock of the event is held
    return wait(condition, timeout)

with signals.as_event() as stop:
    threading.Condition.wait = interrupted
    print(stop.wait(30), flush=True)
    if sys.argv[2:]:
        os.kill(os.getpid(), number)
        wait(threading.Condition(), 30)
print("after", flush=True)
"""


def _run(*arguments: object) -> tuple[int, str]:
    command = [sys.executable, "-c", _PROGRAM, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_event_while_that_is_waited_for(number: signal.Signals) -> None:
    assert _run(number) == (0, "True\nafter\n")


def test_the_second_signal_ends_the_process() -> None:
    assert _run(signal.SIGTERM, "again") == (130, "True\n")
