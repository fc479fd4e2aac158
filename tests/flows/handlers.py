"""Handlers that a child process can import."""

from __future__ import annotations

import os

from streamq import StreamQ
from streamq.app import app as queue
from streamq.transport.address import Address

app = StreamQ("shop", "unix:///nowhere.sock")


def at(url: str) -> StreamQ:
    """The app at another server."""
    app._move_to(Address.parse(url))
    queue._APPS.add(app)  # so that the test closes it
    return app


@app.task
def plain(n: int) -> int:
    """In a thread."""
    return n + 1


@app.task(executor="process")
def in_process(n: int) -> list[int]:
    """In a process of its own."""
    return [n, os.getpid()]
