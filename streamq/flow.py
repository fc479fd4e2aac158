"""Flows: operations of several steps, written once for plain code and for event loops.

A flow is a generator that yields steps and is sent the answer to each, or thrown its error. Owns the steps
and the drivers that carry them out. A flow must not do I/O itself.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from streamq.calls.call import AnyCall, Call
from streamq.stepper import Stepper

if TYPE_CHECKING:
    from streamq.transport.async_transport import AsyncTransport
    from streamq.transport.sync_transport import SyncTransport

R = TypeVar("R")


class Ask(NamedTuple):
    """A call to run; patience: as the transport takes it."""

    call: AnyCall
    patience: float | None = None


class Share(NamedTuple):
    """A call to run that changes nothing the second time, about keys of this shard. An event loop may send it
    with others in one round trip."""

    call: AnyCall
    shard: int


class AskAll(NamedTuple):
    """A call to run on every node that holds data; the answer is a dict by the node's address."""

    call: AnyCall


class AskNode(NamedTuple):
    """A call to run on one of the nodes that `AskAll` named."""

    node: str
    call: AnyCall


class Pause(NamedTuple):
    """Seconds to wait before the flow goes on."""

    seconds: float


class Part(NamedTuple):
    """A part of the result, for callers that iterate the flow; `drive` ignores it."""

    value: object


Step = Ask | Share | AskAll | AskNode | Pause | Part
Flow = Generator[Step, Any, R]
Shares = Callable[[int, AnyCall], Awaitable[object]]


def ask(call: Call[R], patience: float | None = None) -> Flow[R]:
    """Ask one call; return its answer, with the call's type."""
    answer: R = yield Ask(call, patience)
    return answer


def share(call: Call[R], shard: int) -> Flow[R]:
    """Run one call as `Share` says; return its answer, with the call's type."""
    answer: R = yield Share(call, shard)
    return answer


def in_turn(flows: Iterable[Flow[R]]) -> Flow[list[R]]:
    """Carry out flows one after the other; return their results in order."""
    results: list[R] = []
    for flow in flows:
        results += [(yield from flow)]
    return results


def in_pages(page: Callable[[int, int], Call[list[R]]], size: int) -> Flow[list[R]]:
    """Ask for a list in pages, of `size` from a place on; return it without repetitions. What moves in it
    meanwhile may be missing."""
    found: dict[R, None] = {}
    first = 0
    while True:
        some = yield from ask(page(first, size))
        found |= dict.fromkeys(some)
        first += size
        if len(some) < size:
            return list(found)


def drive(transport: SyncTransport, flow: Flow[R], *, patience: float | None = None) -> R:
    """Carry out a flow and return its result. Raises what the flow raises. patience: the default of its
    calls."""
    steps = Stepper(flow)
    while steps.step is not None:
        try:
            answer = _answer(transport, steps.step, patience)
        except Exception as error:  # noqa: BLE001 - for the flow to handle or to raise
            steps.throw(error)
        else:
            steps.send(answer)
    return steps.result


def parts(
    transport: SyncTransport, flow: Flow[object], *, patience: float | None = None
) -> Generator[object, None, None]:
    """Carry out a flow as far as it is iterated, and yield its parts."""
    steps = Stepper(flow)
    while steps.step is not None:
        try:
            if isinstance(steps.step, Part):
                yield steps.step.value
            answer = _answer(transport, steps.step, patience)
        except Exception as error:  # noqa: BLE001 - as above
            steps.throw(error)
        else:
            steps.send(answer)


def _answer(transport: SyncTransport, step: Step, patience: float | None) -> object:
    match step:
        case Ask(call, own):
            return transport.run(call, patience=patience if own is None else own)
        case Share(call, _):
            return transport.run(call, patience=patience)
        case AskAll(call):
            return transport.run_on_all_nodes(call)
        case AskNode(node, call):
            return transport.run_on_node(node, call)
        case Pause(seconds):
            time.sleep(seconds)
        case Part():
            pass
    return None


async def adrive(
    transport: AsyncTransport,
    flow: Flow[R],
    *,
    patience: float | None = None,
    share: Shares | None = None,
) -> R:
    """Carry out a flow as `drive` does, in an event loop. share: sends the calls that may go with others."""
    steps = Stepper(flow)
    while steps.step is not None:
        try:
            answer = await _aanswer(transport, steps.step, patience, share)
        except Exception as error:  # noqa: BLE001 - as above
            steps.throw(error)
        else:
            steps.send(answer)
    return steps.result


async def adrive_by(carry: Callable[[Ask], Awaitable[object]], flow: Flow[R]) -> R:
    """Carry out a flow that only asks, as `drive` does, each question by this coroutine."""
    steps = Stepper(flow)
    while isinstance(steps.step, Ask):
        try:
            answer = await carry(steps.step)
        except Exception as error:  # noqa: BLE001 - as above
            steps.throw(error)
        else:
            steps.send(answer)
    if steps.step is not None:
        raise TypeError(f"this flow does more than ask: {steps.step!r:.200}")
    return steps.result


async def aparts(
    transport: AsyncTransport, flow: Flow[object], *, patience: float | None = None
) -> AsyncGenerator[object]:
    """Carry out a flow as `parts` does, in an event loop."""
    steps = Stepper(flow)
    while steps.step is not None:
        try:
            if isinstance(steps.step, Part):
                yield steps.step.value
            answer = await _aanswer(transport, steps.step, patience)
        except Exception as error:  # noqa: BLE001 - as above
            steps.throw(error)
        else:
            steps.send(answer)


async def _aanswer(
    transport: AsyncTransport, step: Step, patience: float | None, share: Shares | None = None
) -> object:
    match step:
        case Ask(call, own):
            return await transport.run(call, patience=patience if own is None else own)
        case Share(call, shard):
            return await (transport.run(call, patience=patience) if share is None else share(shard, call))
        case AskAll(call):
            return await transport.run_on_all_nodes(call)
        case AskNode(node, call):
            return await transport.run_on_node(node, call)
        case Pause(seconds):
            import asyncio  # noqa: PLC0415 - plain programs do not need it

            await asyncio.sleep(seconds)
        case Part():
            pass
    return None
