"""Flows: what takes more than one question to the server, written once for plain code and for event loops.

A flow is a generator that yields steps and is sent the answer to each, or the error. Owns the steps and the
drivers that carry them out. A flow does no I/O itself.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Generator, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from streamq.calls.call import Call

if TYPE_CHECKING:
    from streamq.transport.async_transport import AsyncTransport
    from streamq.transport.sync_transport import SyncTransport

R = TypeVar("R")


class Ask(NamedTuple):
    """A call to run; `patience` as the transport takes it."""

    call: Call[Any]
    patience: float | None = None


class AskAll(NamedTuple):
    """A call to run on every node that holds data; answered with a dict by the node's address."""

    call: Call[Any]


class AskNode(NamedTuple):
    """A call to run on one of the nodes that `AskAll` named."""

    node: str
    call: Call[Any]


class Pause(NamedTuple):
    """Seconds to wait before the flow goes on."""

    seconds: float


class Part(NamedTuple):
    """A part of the result, for whoever iterates; `drive` passes over it."""

    value: Any


Step = Ask | AskAll | AskNode | Pause | Part
Flow = Generator[Step, Any, R]


def ask(call: Call[R], patience: float | None = None) -> Flow[R]:
    """Ask one call; the answer has the call's type."""
    answer: R = yield Ask(call, patience)
    return answer


def in_turn(flows: Iterable[Flow[R]]) -> Flow[list[R]]:
    """Carry flows out one after the other; return the results in their order."""
    results: list[R] = []
    for flow in flows:
        results += [(yield from flow)]
    return results


def drive(transport: SyncTransport, flow: Flow[R], *, patience: float | None = None) -> R:
    """Carry a flow out and return its result; raises what it raises. patience: of calls that name none."""
    steps = parts(transport, flow, patience=patience)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        result: R = end.value
        return result


def parts(
    transport: SyncTransport, flow: Flow[R], *, patience: float | None = None
) -> Generator[Any, None, R]:
    """Carry a flow out as far as it is iterated, and yield its parts."""
    try:
        step = next(flow)
        while True:
            try:
                if isinstance(step, Part):
                    yield step.value
                answer = _answer(transport, step, patience)
            except Exception as error:  # noqa: BLE001 - the flow's to handle, or to raise
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as end:
        result: R = end.value
        return result


def _answer(transport: SyncTransport, step: Step, patience: float | None) -> Any:
    match step:
        case Ask(call, own):
            return transport.run(call, patience=patience if own is None else own)
        case AskAll(call):
            return transport.everywhere(call)
        case AskNode(node, call):
            return transport.there(node, call)
        case Pause(seconds):
            return time.sleep(seconds)
        case Part():
            return None


async def adrive(transport: AsyncTransport, flow: Flow[R], *, patience: float | None = None) -> R:
    """As `drive`, in an event loop."""
    try:
        step = next(flow)
        while True:
            try:
                answer = await _aanswer(transport, step, patience)
            except Exception as error:  # noqa: BLE001 - as above
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as end:
        result: R = end.value
        return result


async def aparts(
    transport: AsyncTransport, flow: Flow[Any], *, patience: float | None = None
) -> AsyncGenerator[Any]:
    """As `parts`, in an event loop."""
    try:
        step = next(flow)
        while True:
            try:
                if isinstance(step, Part):
                    yield step.value
                answer = await _aanswer(transport, step, patience)
            except Exception as error:  # noqa: BLE001 - as above
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration:
        return


async def _aanswer(transport: AsyncTransport, step: Step, patience: float | None) -> Any:
    match step:
        case Ask(call, own):
            return await transport.run(call, patience=patience if own is None else own)
        case AskAll(call):
            return await transport.everywhere(call)
        case AskNode(node, call):
            return await transport.there(node, call)
        case Pause(seconds):
            import asyncio  # noqa: PLC0415 - plain programs do without

            return await asyncio.sleep(seconds)
        case Part():
            return None
