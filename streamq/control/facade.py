"""The sync and the async facade of the control plane: each operation is written once, as a flow.

Owns how a flow becomes a method of a sync class and of its async twin, with one signature and one docstring.
Must not know an operation.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NoReturn, ParamSpec, TypeAlias, TypeVar, overload

from streamq.blocking import refuse
from streamq.flow import Flow, adrive, aparts, drive, parts
from streamq.namespace import namespace_of

if TYPE_CHECKING:
    from streamq.transport.async_transport import AsyncTransport
    from streamq.transport.sync_transport import SyncTransport

P = ParamSpec("P")
R = TypeVar("R")
AsyncSource: TypeAlias = "AsyncTransport | Callable[[], AsyncTransport]"
"""The transport of an event loop, or a function that returns the one of the running loop."""
Method: TypeAlias = Callable[..., object]
"""A method whose signature is its flow's."""


class operation(Generic[P, R]):  # noqa: N801 - a decorator
    """Marks a method that returns a flow: a `SyncFacade` has it as a plain method with the flow's result, an
    `AsyncFacade` as a coroutine function."""

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[R]]) -> None:
        self.flow = flow
        self._documented = _documented(flow, "{}")

    @overload
    def __get__(self, instance: SyncFacade, owner: type | None = None) -> Callable[P, R]: ...
    @overload
    def __get__(
        self, instance: AsyncFacade, owner: type | None = None
    ) -> Callable[P, Coroutine[object, object, R]]: ...

    def __get__(self, instance: object, owner: type | None = None) -> object:
        return self if instance is None else MethodType(self.flow, instance)

    def plain(self, name: str, instead: str) -> Method:
        """Return the method of the sync class."""

        @self._documented
        def asked(facade: SyncFacade, /, *args: P.args, **kwargs: P.kwargs) -> object:
            refuse(f"{name}()", f"await {instead}(…)")
            return drive(facade.transport, self.flow(facade, *args, **kwargs))

        return asked

    def awaited(self) -> Method:
        """Return the method of the async class."""

        @self._documented
        async def asked(facade: AsyncFacade, /, *args: P.args, **kwargs: P.kwargs) -> R:
            return await adrive(facade.transport, self.flow(facade, *args, **kwargs))

        return asked


class stepwise(Generic[P, R]):  # noqa: N801 - a decorator
    """Marks a method that returns a flow with parts, which its caller iterates, with `for` or `async for`.
    Only what is iterated is done."""

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[R]]) -> None:
        self.flow = flow

    @overload
    def __get__(self, instance: SyncFacade, owner: type | None = None) -> Callable[P, Iterator[R]]: ...
    @overload
    def __get__(self, instance: AsyncFacade, owner: type | None = None) -> Callable[P, AsyncIterator[R]]: ...

    def __get__(self, instance: object, owner: type | None = None) -> object:
        return self if instance is None else MethodType(self.flow, instance)

    def plain(self, name: str, instead: str) -> Method:
        """Return the method of the sync class."""

        @_documented(self.flow, "Iterator[{}]")
        def iterated(facade: SyncFacade, /, *args: P.args, **kwargs: P.kwargs) -> object:
            refuse(f"{name}()", f"async for … in {instead}(…)")
            return parts(facade.transport, self.flow(facade, *args, **kwargs))

        return iterated

    def awaited(self) -> Method:
        """Return the method of the async class."""

        @_documented(self.flow, "AsyncIterator[{}]")
        def iterated(facade: AsyncFacade, /, *args: P.args, **kwargs: P.kwargs) -> object:
            return aparts(facade.transport, self.flow(facade, *args, **kwargs))

        return iterated


def _documented(flow: Method, returns: str) -> Callable[[Method], Method]:
    """Give a method the name, docstring and signature of its flow, with the return type for its caller."""
    result = str(flow.__annotations__["return"]).removeprefix("Flow[").removesuffix("]")
    signature = inspect.signature(flow).replace(return_annotation=returns.format(result))

    def documented(method: Method) -> Method:
        functools.update_wrapper(method, flow)
        method.__annotations__ = {**flow.__annotations__, "return": signature.return_annotation}
        method.__dict__["__signature__"] = signature
        return method

    return documented


def _operations(cls: type) -> Iterator[tuple[str, operation[..., object] | stepwise[..., object]]]:
    for name in dir(cls):
        found = inspect.getattr_static(cls, name)
        if isinstance(found, operation | stepwise):
            yield name, found


class Facade:
    """The app with its namespace, and the least number of its shards."""

    def __init__(self, app: str, shards: int) -> None:
        self._app, self._shards = app, shards

    @property
    def app(self) -> str:
        """The app's name."""
        return self._app

    if not TYPE_CHECKING:  # type checkers would accept every name as an attribute

        def __getattr__(self, name: str) -> NoReturn:
            from streamq.migration_hints import missing  # noqa: PLC0415 - only for a misspelt name

            missing(type(self).__name__, name)


class SyncFacade(Facade):
    """The sync facade. A subclass names its own attribute of a StreamQ and its twin's: `called`, `awaited`.
    Where an event loop runs its methods are refused, with the twin's in the error."""

    def __init_subclass__(cls, *, called: str = "", awaited: str = "") -> None:
        for name, found in _operations(cls):
            setattr(cls, name, found.plain(f"{called}.{name}", f"{awaited}.{name}"))

    def __init__(self, transport: SyncTransport, app: str, shards: int = 1) -> None:
        super().__init__(transport.address.namespace.app(app), shards)
        self._transport = transport

    @property
    def transport(self) -> SyncTransport:
        """The transport of its queries; the doctor uses it for queries of its own."""
        return self._transport


class AsyncFacade(Facade):
    """The async facade. With a function as its source, each call gets the transport of the running loop, so
    that one object serves all loops of a program; `app` must then carry its namespace."""

    def __init_subclass__(cls) -> None:
        for name, found in _operations(cls):
            setattr(cls, name, found.awaited())

    def __init__(self, transport: AsyncSource, app: str, shards: int = 1) -> None:
        space = namespace_of(app) if callable(transport) else transport.address.namespace
        super().__init__(space.app(app), shards)
        self._transport = transport

    @property
    def transport(self) -> AsyncTransport:
        """The transport of its queries, in the running event loop."""
        return self._transport() if callable(self._transport) else self._transport
