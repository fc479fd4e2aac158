"""The worker's side of its child processes: their start, the pipe to each, and their end.

Owns the processes. Whatever their size, requests and answers travel without holding up the event loop; only
the end of a process, never a pipe that is full, is taken for its death.
"""

from __future__ import annotations

import asyncio
import os
import pickle  # nosec B403 - what is read is from our own process
import socket
import struct
import threading
import time
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final

from streamq.errors import ProcessDied, StreamQError, UnknownTaskType
from streamq.telemetry import logs
from streamq.worker import child_stacks, process_child
from streamq.worker.parent_death import end_group

_SPAWN: Final = get_context("spawn")  # a forked child would share the worker's threads, sockets and loop

LONGEST_IMPORT: Final = 60.0
"""Seconds for a child process to start and to import the app."""
LONGEST_END: Final = 5.0
"""Seconds for a child that runs nothing to end by itself, with its exit handlers."""
LINGER: Final = 1.0
"""Seconds for what a process said last: another that it has started may hold its pipe for ever."""
_BUFFER: Final = 1 << 20


class ImportFailed(StreamQError):
    """A child process cannot import a handler."""


class Child:
    """One child process and the pipe to it. Lives in the event loop in which it was opened."""

    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        pipe = Connection(theirs.detach())
        self._stack, stack = _SPAWN.Pipe(duplex=False)
        arguments = (pipe, stack, logs.settings())
        self.process: BaseProcess = _SPAWN.Process(
            target=process_child.serve, args=arguments, name="streamq-child"
        )
        try:
            self.process.start()
        finally:
            pipe.close()
            stack.close()
        self._ended = asyncio.Event()
        self._opened = False
        self._watched = -1
        self._prepared: set[str] = set()

    @property
    def pid(self) -> int:
        return _pid(self.process)

    @property
    def ended(self) -> bool:
        """Whether the process is known to have ended."""
        return self._ended.is_set()

    def stood(self) -> str:
        """Where its handler stands."""
        return "" if self.process.exitcode is not None else child_stacks.of_process(self.pid, self._stack)

    async def open(self) -> None:
        """Connect to it, once."""
        if self._opened:
            return
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._ours, limit=_BUFFER)
        self._opened = True
        self._watched = _end_of(self.process)
        asyncio.get_running_loop().add_reader(self._watched, self._noted)

    async def prepare(self, reference: str) -> None:
        """Let the child import a handler, once.

        Raises UnknownTaskType where there is none of this name, ImportFailed where its module cannot be
        imported, ProcessDied where the process dies of it or takes too long.
        """
        if reference in self._prepared:
            return
        try:
            async with asyncio.timeout(LONGEST_IMPORT):
                error, message = await self.ask({"reference": reference})
        except TimeoutError:
            raise ProcessDied(f"the process did not import {reference} within {LONGEST_IMPORT:g} s") from None
        if error == UnknownTaskType.__name__:
            raise UnknownTaskType(message)
        if error:
            raise ImportFailed(f"the process cannot import {reference}: {error}: {message}")
        self._prepared.add(reference)

    async def ask(self, request: dict[str, Any]) -> Any:
        """The child's answer. Raises ProcessDied. Cancelled, it leaves a child that must be killed."""
        try:
            for part in _framed(pickle.dumps(request)):
                self._writer.write(part)
            await self._writer.drain()
            return pickle.loads(await self._frame())  # noqa: S301 # nosec B301 - from our own process
        except (EOFError, OSError):
            pass
        raise await self._died()

    async def _frame(self) -> bytes:
        """One message as `multiprocessing.connection` writes it: its length, then as many bytes."""
        (length,) = struct.unpack("!i", await self._reader.readexactly(4))
        if length == -1:
            (length,) = struct.unpack("!Q", await self._reader.readexactly(8))
        return await self._reader.readexactly(length)

    async def _died(self) -> ProcessDied:
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_END):
                await self._ended.wait()
        code = self.process.exitcode
        how = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return ProcessDied(f"the process that ran the handler ended before it did ({how})")

    def _noted(self) -> None:
        """The process has ended, and not because we closed its pipe: nothing that it started goes on."""
        end_group(self.pid)
        self.process.join(0)
        self._unwatch()
        self._ended.set()
        asyncio.get_running_loop().call_later(LINGER, self._writer.transport.abort)

    def _unwatch(self) -> None:
        if self._watched == -1:
            return
        with suppress(RuntimeError):  # the loop may be closed
            asyncio.get_running_loop().remove_reader(self._watched)
        if self._watched != self.process.sentinel:
            os.close(self._watched)
        self._watched = -1

    def kill(self) -> None:
        """End it with all that it has started; its end is noted when it comes."""
        if self.process.exitcode is None:
            end_group(self.pid)
        if self._opened:
            self._writer.transport.abort()

    def dismiss(self) -> None:
        """Let it end by itself. Nobody watches it any more: see `see_off`."""
        self._unwatch()
        if self._opened:
            self._writer.close()
        else:
            self._ours.close()


def see_off(processes: list[Any]) -> None:
    """Wait until all of these have ended, and kill those that take too long; in a thread, which keeps this
    process from ending before them."""
    if processes:
        threading.Thread(target=_wait_for, args=(processes,), name="streamq-see-off").start()


def _wait_for(processes: list[Any]) -> None:
    deadline = time.monotonic() + LONGEST_END
    for one in processes:
        one.join(max(0.0, deadline - time.monotonic()))
    for one in processes:
        if one.is_alive():
            end_group(_pid(one))
            one.join(1.0)


def _pid(process: Any) -> int:
    pid: int = process.pid
    return pid


def _end_of(process: Any) -> int:
    """A descriptor that can be read when the process has ended. Its sentinel tells so too, but not while
    another process that it forked is there."""
    try:
        return os.pidfd_open(_pid(process))
    except (AttributeError, OSError):
        sentinel: int = process.sentinel
        return sentinel


def _framed(message: bytes) -> tuple[bytes, bytes]:
    length = len(message)
    return struct.pack("!i", length) if length < 1 << 31 else struct.pack("!iQ", -1, length), message
