"""The two faces of the control plane: each operation is written once, as a flow, and called or awaited.

Owns how a flow becomes a method of a plain class and of its async twin, with one signature and one docstring.
Knows no operation.
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
OfLoop: TypeAlias = "AsyncTransport | Callable[[], AsyncTransport]"
"""The transport of an event loop, or what answers that of the running one."""


class operation(Generic[P, R]):  # noqa: N801 - a decorator
    """Marks a method that returns a flow. A `SyncFacade` has it as a plain method that returns the flow's
    result, an `AsyncFacade` as a coroutine function."""

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[R]]) -> None:
        self.flow = flow
        self._documented = _documented(flow, "{}")

    @overload
    def __get__(self, instance: SyncFacade, owner: Any = None) -> Callable[P, R]: ...
    @overload
    def __get__(self, instance: AsyncFacade, owner: Any = None) -> Callable[P, Coroutine[Any, Any, R]]: ...

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self.flow, instance)

    def plain(self, name: str, instead: str) -> Callable[..., Any]:
        """Return the method of the plain class."""

        @self._documented
        def asked(facade: SyncFacade, /, *args: Any, **kwargs: Any) -> Any:
            refuse(f"{name}()", f"await {instead}(…)")
            return drive(facade.transport, self.flow(facade, *args, **kwargs))

        return asked

    def awaited(self) -> Callable[..., Any]:
        """Return the method of the async class."""

        @self._documented
        async def asked(facade: AsyncFacade, /, *args: Any, **kwargs: Any) -> Any:
            return await adrive(facade.transport, self.flow(facade, *args, **kwargs))

        return asked


class stepwise(Generic[P, R]):  # noqa: N801 - a decorator
    """Marks a method that returns a flow with parts: its caller iterates them, with `for` or `async for`.
    Only what is iterated is done."""

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[R]]) -> None:
        self.flow = flow

    @overload
    def __get__(self, instance: SyncFacade, owner: Any = None) -> Callable[P, Iterator[R]]: ...
    @overload
    def __get__(self, instance: AsyncFacade, owner: Any = None) -> Callable[P, AsyncIterator[R]]: ...

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self.flow, instance)

    def plain(self, name: str, instead: str) -> Callable[..., Any]:
        """Return the method of the plain class."""

        @_documented(self.flow, "Iterator[{}]")
        def iterated(facade: SyncFacade, /, *args: Any, **kwargs: Any) -> Any:
            refuse(f"{name}()", f"async for … in {instead}(…)")
            return parts(facade.transport, self.flow(facade, *args, **kwargs))

        return iterated

    def awaited(self) -> Callable[..., Any]:
        """Return the method of the async class."""

        @_documented(self.flow, "AsyncIterator[{}]")
        def iterated(facade: AsyncFacade, /, *args: Any, **kwargs: Any) -> Any:
            return aparts(facade.transport, self.flow(facade, *args, **kwargs))

        return iterated


def _documented(flow: Callable[..., Any], returns: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a method the name, docstring and signature of its flow, with the type that its caller gets."""
    result = str(flow.__annotations__["return"]).removeprefix("Flow[").removesuffix("]")
    signature = inspect.signature(flow).replace(return_annotation=returns.format(result))

    def documented(method: Callable[..., Any]) -> Callable[..., Any]:
        made: Any = functools.wraps(flow)(method)
        made.__signature__ = signature
        made.__annotations__ = {**flow.__annotations__, "return": signature.return_annotation}
        return method

    return documented


def _operations(cls: type) -> Iterator[tuple[str, Any]]:
    for name in dir(cls):
        found = inspect.getattr_static(cls, name)
        if isinstance(found, operation | stepwise):
            yield name, found


class Facade:
    """What both faces know: the app with its namespace, and at least how many shards it has."""

    def __init__(self, app: str, shards: int) -> None:
        self._app, self._shards = app, shards

    @property
    def app(self) -> str:
        """The app's name."""
        return self._app

    if not TYPE_CHECKING:  # which would take every name for an attribute

        def __getattr__(self, name: str) -> NoReturn:
            from streamq.migration_hints import missing  # noqa: PLC0415 - for a slip only

            missing(type(self).__name__, name)


class SyncFacade(Facade):
    """The plain face. A subclass names the attributes of a StreamQ that it and its twin are: `called`,
    `awaited`; in an `async def` handler its methods are refused in favour of the twin's."""

    def __init_subclass__(cls, *, called: str = "", awaited: str = "") -> None:
        for name, found in _operations(cls):
            setattr(cls, name, found.plain(f"{called}.{name}", f"{awaited}.{name}"))

    def __init__(self, transport: SyncTransport, app: str, shards: int = 1) -> None:
        super().__init__(transport.address.namespace.app(app), shards)
        self._transport = transport

    @property
    def transport(self) -> SyncTransport:
        """What it asks through: the doctor has questions of its own."""
        return self._transport


class AsyncFacade(Facade):
    """The face for event loops. Where it is given a function, that is asked for the transport of the running
    loop at each call, so one object serves all loops of a program; `app` then has its namespace with it."""

    def __init_subclass__(cls) -> None:
        for name, found in _operations(cls):
            setattr(cls, name, found.awaited())

    def __init__(self, transport: OfLoop, app: str, shards: int = 1) -> None:
        space = namespace_of(app) if callable(transport) else transport.address.namespace
        super().__init__(space.app(app), shards)
        self._transport = transport

    @property
    def transport(self) -> AsyncTransport:
        """What it asks through, in the running event loop."""
        return self._transport() if callable(self._transport) else self._transport
