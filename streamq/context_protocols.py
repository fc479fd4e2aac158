"""What a context needs: the attributes of its task, the steps of its attempt, and the app of its task type.

Owns these protocols, which `app.context_home` and `app.steps` fulfil. Must not import anything of streamq.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Protocol, TypeAlias, TypeVar

R = TypeVar("R")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
D_contra = TypeVar("D_contra", contravariant=True)
S = TypeVar("S")
Duration = float | timedelta | str
Source = Callable[[Any], AsyncIterable[T] | Iterable[T]] | AsyncIterable[T] | Iterable[T]
SyncSource = Callable[[Any], Iterable[T]] | Iterable[T]


class Enqueues(Protocol[T_co]):
    """A call of a task type, not sent yet; its type says which handle it will have."""

    def _enqueued(self) -> T_co: ...


class Returns(Protocol[T_co]):
    """A call of a task type, not sent yet; its type says what its handler returns."""

    def _returned(self) -> T_co: ...


class Starts(Protocol):
    """A flow that was declared, `app.flow(...)`, and not started."""

    @property
    def name(self) -> str: ...

    def start(self, key: str | None = None) -> object: ...


class Task(Protocol):
    """The attributes of a delivery that the context reads."""

    @property
    def id(self) -> object: ...
    @property
    def type(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def lost(self) -> int: ...
    @property
    def enqueued_ms(self) -> int: ...
    @property
    def scheduled_ms(self) -> int | None: ...
    @property
    def fence(self) -> int: ...
    @property
    def generation(self) -> int: ...


class StepsOf(Protocol):
    """The steps of one attempt."""

    async def run(
        self, name: str, function: Callable[..., Awaitable[R] | R], args: tuple[object, ...],
        kwargs: Mapping[str, object],
    ) -> R:  # fmt: skip
        """Return the memo of a step, or make the call and store its result."""
        ...

    def run_sync(
        self, name: str, function: Callable[..., R], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> R:
        """Do what `run` does, in a thread."""
        ...

    async def sleep(self, duration: Duration, name: str | None) -> None:
        """Return if the time is over; else raise Suspended."""

    def sleep_sync(self, duration: Duration, name: str | None) -> None:
        """Do what `sleep` does, in a thread."""

    async def wait(self, signal: str, kind: object, timeout: Duration | None) -> object:
        """Return the next signal of this name if it has come; else raise Suspended, or SignalTimeout."""
        ...

    def wait_sync(self, signal: str, kind: object, timeout: Duration | None) -> object:
        """Do what `wait` does, in a thread."""
        ...

    def resume(
        self, source: Source[T], key: Callable[[T], object] | None, every: Duration, name: str | None,
        stops: Callable[[], bool],
    ) -> AsyncIterator[T]:  # fmt: skip
        """Yield the rows of a source behind the last one that was finished."""
        ...

    def resume_sync(
        self, source: SyncSource[T], key: Callable[[T], object] | None, every: Duration, name: str | None,
        stops: Callable[[], bool],
    ) -> Iterator[T]:  # fmt: skip
        """Do what `resume` does, in a thread."""
        ...

    async def run_flow(self, flow: Starts, name: str | None, returns: object) -> Any:
        """Return the result of a flow that runs for this task; else raise Suspended, or FlowFailed."""

    def run_flow_sync(self, flow: Starts, name: str | None, returns: object) -> Any:
        """Do what `run_flow` does, in a thread."""

    async def aflush(self) -> None:
        """Store the cursors that have moved."""

    def flush(self) -> None:
        """Do what `aflush` does, in a thread."""


class Home(Protocol[D_contra, S]):
    """What a context needs of the app of its task type. D: the app's deliveries; S: how it names a server."""

    @property
    def server(self) -> S:
        """The server of the app, for another process."""
        ...

    def move(self, server: S) -> None:
        """Use this server."""

    def follow(self, task: D_contra, before: list[object], calls: Iterable[Enqueues[T]]) -> list[T]:
        """Check calls and add them as follow-ups to those `before`; return their handles."""
        ...

    def spawn(self, task: D_contra, before: list[object], calls: Iterable[Enqueues[object]]) -> None:
        """Check calls and add them as children of a flow's node to what was enqueued `before`."""

    def go_on(self, task: D_contra, before: list[object], call: Returns[T]) -> T:
        """Check the call of a new run and add it to what was enqueued `before`; return what stands for its
        result."""
        ...

    def steps(self, task: D_contra, worker: str) -> StepsOf:
        """Return the steps of an attempt that has made none yet."""
        ...

    def progress(self, task: D_contra, worker: str, done: float, total: float | None, text: str) -> None:
        """Publish the progress of an attempt."""

    def emit(self, task: D_contra, worker: str, value: object) -> None:
        """Publish a value of an attempt."""

    def log(self, task: D_contra, worker: str, level: int, logger: str, message: str) -> bool:
        """Tell a log record of an attempt, if its type shows records of this level; return whether it
        does."""
        ...

    def flush(self, task: D_contra) -> None:
        """Send what an attempt has published."""


AnyHome: TypeAlias = Home[Any, Any]
"""The home of some app, whose deliveries the worker has got from it."""
