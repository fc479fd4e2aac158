"""An app with hooks at the top of a module: processes import it by name."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from streamq import Context, Hook, StreamQ
from streamq.transport.address import Address

TENANT: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="")


def note(path: str, line: str) -> None:
    with Path(path).open("a") as file:
        file.write(f"{line} {os.getpid()}\n")


class Async(Hook):
    """Runs on an event loop beside a `def` handler."""

    @asynccontextmanager
    async def around_attempt(self, context: Context) -> AsyncGenerator[None]:
        assert context.attempt == 1
        await asyncio.sleep(0)
        token = TENANT.set("acme")
        try:
            yield
        except ValueError as error:
            await asyncio.sleep(0)
            raise LookupError(f"instead of {error}") from None
        finally:
            TENANT.reset(token)


class Sync(Hook):
    """Runs where the handler does."""

    @contextmanager
    def around_attempt(self, context: Context) -> Generator[None]:
        self.thread = threading.get_ident()
        try:
            yield
        except KeyError:  # swallowed, which must not pass for a success
            return


SYNC = Sync()
app = StreamQ("shop", "unix:///nowhere.sock", hooks=[Async(), SYNC])


def at(url: str) -> StreamQ:
    """The same handlers at another server, whose worker knows of no hooks: they are the handlers' own."""
    found = StreamQ("shop", url)
    found.registry.handlers.update(app.registry.handlers)
    found.address = Address.parse(url)
    return found


@app.task(executor="process", max_attempts=1)
def inside() -> list[object]:
    """A handler that may run an event loop, though async hooks are around it."""
    asyncio.run(asyncio.sleep(0))
    main = threading.current_thread() is threading.main_thread()
    return [os.getpid(), TENANT.get(), threading.get_ident() == SYNC.thread, main]


@app.task(max_attempts=1)
def in_thread() -> list[object]:
    main = threading.current_thread() is threading.main_thread()
    return [os.getpid(), TENANT.get(), threading.get_ident() == SYNC.thread, main]


class Declined(Exception):
    """An exception of the user's own."""


@app.task(executor="process", max_attempts=1)
def declined_inside() -> None:
    raise Declined("no")


@app.task(max_attempts=1)
async def declined() -> None:
    raise Declined("no")


@app.task(executor="process", max_attempts=1)
def fails_inside(what: str) -> None:
    raise {"value": ValueError, "key": KeyError, "exit": SystemExit, "stop": StopIteration}[what](what)


@app.task(max_attempts=1)
def fails_in_thread(what: str) -> None:
    raise {"value": ValueError, "key": KeyError, "exit": SystemExit, "stop": StopIteration}[what](what)
