"""Handlers for tests that need them at the top of a module: processes import them by name."""

from __future__ import annotations

import os
import signal
import time

from streamq import StreamQ, get_context, queue
from streamq.transport import Address

app = StreamQ("shop", "unix:///nowhere.sock")


def at(url: str) -> StreamQ:
    """The app at another server."""
    app.address = Address.parse(url)
    app._client.transport._address = app.address
    app._client.transport._resolved = None
    app._client.transport.close()
    app._client._registered.clear()
    app.registry.record = None
    app._asyncs._address = app.address
    app._asyncs.forget()
    queue._APPS.add(app)  # so that the test closes it
    return app


@app.task(executor="process", max_attempts=1)
def where() -> list[int]:
    return [os.getpid(), get_context().attempt]


@app.task(executor="process", max_attempts=1)
def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(executor="process", max_attempts=1)
def fails(text: str) -> None:
    raise RuntimeError(text)


@app.task(executor="process", max_attempts=1)
def sleeps() -> None:
    time.sleep(60)
