"""A test kit: run the tasks of an app in a test, on a private server, without waiting for time to pass.

`Queue` runs tasks in the test's own thread through the real scripts, and moves time on. `recording` keeps
what would be sent, without a server. `plugin` is the pytest plugin over both, `cases` the mixin for unittest.
Nothing is faked but time, and nothing of it is loaded by a program that does not test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamq import lazy

if TYPE_CHECKING:
    from streamq.testing.cases import QueueTestCase as QueueTestCase
    from streamq.testing.queue import Queue as Queue
    from streamq.testing.recorder import Recording as Recording
    from streamq.testing.recorder import SentTask as SentTask
    from streamq.testing.recorder import recording as recording
    from streamq.testing.runner import EndedTask as EndedTask

__all__, _named = lazy.names(__name__, {
    "cases": ("QueueTestCase",),
    "queue": ("Queue",),
    "recorder": ("Recording", "SentTask", "recording"),
    "runner": ("EndedTask",),
})  # fmt: skip  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    return _named(name)
