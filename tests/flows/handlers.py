"""Handlers that a child process can import."""

from __future__ import annotations

import os

from streamq import Expand, StreamQ, get_context
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


@app.task(executor="process")
def expands(n: int) -> Expand[int]:
    """Returns children, from a process of its own."""
    return Expand([plain.bind(one) for one in range(n)])


@app.task(executor="process")
def spawns(n: int) -> int:
    """Spawns children, from a process of its own."""
    get_context().spawn(*[plain.bind(one) for one in range(n)])
    return n
