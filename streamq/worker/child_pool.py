"""The worker's side of its child processes: starts them, talks to them over pipes, and ends them.

Owns the processes. Requests and responses of any size must not block the event loop, and only the end of a
process counts as its death, never a full pipe.
"""

from __future__ import annotations

import asyncio
import os
import pickle  # nosec B403 - reads only from the worker's own child process
import socket
import struct
import threading
import time
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final

from streamq.errors import LifespanFailed, ProcessDied, StreamQError, UnknownTaskType
from streamq.telemetry import logs
from streamq.worker import child_stacks, main_guard, process_child
from streamq.worker.child_requests import PrepareRequest, RunRequest
from streamq.worker.parent_death import end_group

_SPAWN: Final = get_context("spawn")  # a forked child would share the worker's threads, sockets and loop

LONGEST_IMPORT: Final = 60.0
"""Seconds for a child process to start and to import the app."""
LONGEST_END: Final = 5.0
"""Seconds for an idle child to end by itself, its exit handlers included."""
LINGER: Final = 1.0
"""Seconds to read a dead process's last output: a process that it started may hold its pipe open forever."""
_BUFFER: Final = 1 << 20


class ImportFailed(StreamQError):
    """Raised when a child process cannot import a handler."""


class Child:
    """One child process and the pipe to it. Belongs to the event loop in which it was opened."""

    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter

    def __init__(self, lifespan_timeout: float = 0.0) -> None:
        self._socket, child_socket = socket.socketpair()
        pipe = Connection(child_socket.detach())
        self._stack, stack = _SPAWN.Pipe(duplex=False)
        arguments = (pipe, stack, logs.settings(), lifespan_timeout)
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
        """Return whether the process has ended."""
        return self._ended.is_set()

    def handler_stack(self) -> str:
        """Return the current stack of its handler as text; '' if it cannot be read."""
        return "" if self.process.exitcode is not None else child_stacks.of_process(self.pid, self._stack)

    async def open(self) -> None:
        """Connect to the child. Further calls have no effect."""
        if self._opened:
            return
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._socket, limit=_BUFFER)
        self._opened = True
        self._watched = _exit_descriptor(self.process)
        asyncio.get_running_loop().add_reader(self._watched, self._on_exit)

    async def prepare(self, reference: str, modules: tuple[str, ...] = ()) -> None:
        """Make the child import a handler, unless it already has.

        Raise UnknownTaskType if there is no handler of this name, ImportFailed if its module cannot be
        imported, LifespanFailed if the app cannot start in it, and ProcessDied if the process dies or takes
        too long.
        """
        if reference in self._prepared:
            return
        try:
            async with asyncio.timeout(LONGEST_IMPORT):
                error, message = await self.request({"reference": reference, "modules": modules})
        except TimeoutError:
            raise ProcessDied(
                f"the child process did not import {reference} within {LONGEST_IMPORT:g} s"
            ) from None
        if error == UnknownTaskType.__name__:
            raise UnknownTaskType(message)
        if error == LifespanFailed.__name__:
            raise LifespanFailed(f"in a child process: {message}")
        if error:
            raise ImportFailed(f"the child process cannot import {reference}: {error}: {message}")
        self._prepared.add(reference)

    async def request(self, request: PrepareRequest | RunRequest) -> Any:
        """Return the child's response. Raise ProcessDied. If this is cancelled, the child must be killed."""
        try:
            for part in _framed(pickle.dumps(request)):
                self._writer.write(part)
            await self._writer.drain()
            return pickle.loads(await self._read_frame())  # noqa: S301 # nosec B301 - from the own child
        except (EOFError, OSError):
            pass
        raise await self._died()

    async def _read_frame(self) -> bytes:
        """Return one message in the format of `multiprocessing.connection`: its length, then its bytes."""
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
        if not self._prepared:
            return ProcessDied(
                f"the child process for the handler ended while it started ({how}): see what it has printed. "
                f"If it started the program again: {main_guard.FIX}"
            )
        return ProcessDied(f"the process that ran the handler died before the handler returned ({how})")

    def _on_exit(self) -> None:
        """Clean up after a process that ended unexpectedly, and kill everything that it started."""
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
        """Kill the process and everything that it started. `_on_exit` runs when it has ended."""
        if self.process.exitcode is None:
            end_group(self.pid)
        if self._opened:
            self._writer.transport.abort()

    def close(self) -> None:
        """Close the pipe, so that the process ends by itself, and stop watching it: see
        `join_in_background`."""
        self._unwatch()
        if self._opened:
            self._writer.close()
        else:
            self._socket.close()


def join_in_background(processes: list[BaseProcess], linger: float = 0.0) -> threading.Thread | None:
    """Wait in a thread until these processes have ended, and kill those that take longer than `linger` and
    their exit handlers. The thread, which is returned, keeps this process from ending before them."""
    if not processes:
        return None
    thread = threading.Thread(target=_join_all, args=(processes, linger), name="streamq-join")
    thread.start()
    return thread


def _join_all(processes: list[BaseProcess], linger: float) -> None:
    deadline = time.monotonic() + LONGEST_END + linger
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    for process in processes:
        if process.is_alive():
            end_group(_pid(process))
            process.join(1.0)


def _pid(process: BaseProcess) -> int:
    pid = process.pid
    if pid is None:
        raise RuntimeError("the child process was not started")
    return pid


def _exit_descriptor(process: BaseProcess) -> int:
    """Return a descriptor that becomes readable when the process ends. The sentinel is only the fallback: it
    does not while a process that the child forked is alive."""
    try:
        return os.pidfd_open(_pid(process))
    except (AttributeError, OSError):
        return process.sentinel


def _framed(message: bytes) -> tuple[bytes, bytes]:
    length = len(message)
    return struct.pack("!i", length) if length < 1 << 31 else struct.pack("!iQ", -1, length), message
