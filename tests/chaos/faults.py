"""What each kind of fault does, and how it is undone.

Owns the injections: one coroutine a kind, named as in the plan, which returns when the fault is over. Each
notes in the history what it did to whom, since the checker may forgive what only this fault explains.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import redis

from streamq.keys import GROUP, type_keys
from tests.chaos import history
from tests.chaos.plan import Fault
from tests.chaos.servers import ROLES
from tests.chaos.stage import Seat, Stage, gone
from tests.chaos.tasks import LEASE

Inject = Callable[[Stage, Fault], Awaitable[None]]
FAULTS: Final[dict[str, Inject]] = {}


def fault(inject: Inject) -> Inject:
    FAULTS[inject.__name__] = inject
    return inject


def happened(fault: Fault, whom: str, **more: object) -> None:
    history.write("fault", kind=fault.kind, whom=whom, planned=fault.at, **more)


def _seat(seats: list[Seat], fault: Fault) -> Seat:
    return seats[fault.target % len(seats)]


def _worker(stage: Stage, fault: Fault) -> int | None:
    """A worker process, whoever it is now."""
    pids = [pid for group in stage.groups for pid in group.workers()]
    return pids[fault.target % len(pids)] if pids else None


async def _pause(pid: int, seconds: float) -> None:
    """SIGSTOP, and SIGCONT later. It may have been killed meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


# -- processes ---------------------------------------------------------------------------------------


@fault
async def worker_killed(stage: Stage, fault: Fault) -> None:
    if (pid := _worker(stage, fault)) is not None:
        happened(fault, f"worker {pid}", killed=pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@fault
async def worker_stopped(stage: Stage, fault: Fault) -> None:
    """For longer than a lease, so that its tasks are given to others before it wakes up."""
    if (pid := _worker(stage, fault)) is not None:
        happened(fault, f"worker {pid}", stopped=pid)
        await _pause(pid, LEASE * (1.2 + fault.amount))


@fault
async def supervisor_killed(stage: Stage, fault: Fault) -> None:
    """Its workers drain by themselves, while a new group starts beside them."""
    seat = _seat(stage.groups, fault)
    async with seat.busy:
        happened(fault, seat.name)
        orphans, previous = seat.workers(), stage.runs_previous(seat)
        seat.kill()
        await asyncio.sleep(0.5)
        seat.start()
    code = 0 if await gone(orphans) else None
    history.write("ended", whom=f"orphans of {seat.name}", code=code, previous=previous)


@fault
async def group_terminated(stage: Stage, fault: Fault) -> None:
    await _deploy(stage, fault, switch=False)


@fault
async def deploy(stage: Stage, fault: Fault) -> None:
    """The next process runs the other release: workers more often than daemons."""
    await _deploy(stage, fault, switch=True)


async def _deploy(stage: Stage, fault: Fault, *, switch: bool) -> None:
    seats = [*stage.groups, stage.daemons[0]] if switch else stage.groups
    seat = _seat(seats, fault)
    async with seat.busy:
        happened(fault, seat.name)
        seat.kill(signal.SIGTERM)
        code = await seat.ended()
        history.write("ended", whom=seat.name, code=code, previous=stage.runs_previous(seat))
        if switch:
            stage.switch(seat)
        seat.start()


@fault
async def daemon_killed(stage: Stage, fault: Fault) -> None:
    seat = _seat(stage.daemons, fault)
    async with seat.busy:
        happened(fault, seat.name)
        seat.destroy()
        await asyncio.sleep(fault.amount)
        seat.start()


@fault
async def daemon_stopped(stage: Stage, fault: Fault) -> None:
    seat = _seat(stage.daemons, fault)
    happened(fault, seat.name)
    await _pause(seat.pid, LEASE * (1 + fault.amount))


@fault
async def producer_killed(stage: Stage, fault: Fault) -> None:
    number = fault.target % len(stage.producers)
    seat = stage.producers[number]
    async with seat.busy:
        happened(fault, seat.name)
        seat.destroy()
        stage.restart_producer(number)


@fault
async def producer_stopped(stage: Stage, fault: Fault) -> None:
    seat = _seat(stage.producers, fault)
    happened(fault, seat.name)
    await _pause(seat.pid, LEASE * (0.5 + fault.amount))


@fault
async def clock_jumped(stage: Stage, fault: Fault) -> None:
    """The time of a worker's host is set: by some seconds or an hour, forward or back. It stays so."""
    number = fault.target % len(stage.groups)
    seconds = (-3600.0, -8.0, 8.0, 3600.0)[int(fault.amount * 4)]
    happened(fault, stage.groups[number].name, seconds=seconds)
    stage.jump(number, seconds)


# -- the server --------------------------------------------------------------------------------------


async def _each_server(stage: Stage, *command: str | int | bytes) -> None:
    def run() -> None:
        for client in stage.servers.clients():
            with client, suppress(redis.RedisError):
                client.execute_command(*command)  # type: ignore[no-untyped-call]

    await asyncio.to_thread(run)


@fault
async def server_killed(stage: Stage, fault: Fault) -> None:
    happened(fault, "server")
    await stage.servers.crash(fault.target, fault.amount * 2)


@fault
async def failover(stage: Stage, fault: Fault) -> None:
    happened(fault, "a primary")
    await stage.servers.crash(fault.target, 4 + fault.amount * 2)


@fault
async def server_stopped(stage: Stage, fault: Fault) -> None:
    happened(fault, "server")
    await stage.servers.freeze(fault.target, 0.5 + fault.amount * 3)


@fault
async def clients_killed(stage: Stage, fault: Fault) -> None:
    happened(fault, "all clients")
    await _each_server(stage, "CLIENT", "KILL", "TYPE", "normal")
    await _each_server(stage, "CLIENT", "KILL", "TYPE", "pubsub")


@fault
async def scripts_flushed(stage: Stage, fault: Fault) -> None:
    happened(fault, "server")
    await _each_server(stage, "SCRIPT", "FLUSH")


def _stream(stage: Stage, fault: Fault) -> str:
    names = stage.types
    keys = type_keys("chaos", fault.target % stage.servers.shards, names[fault.target % len(names)])
    return keys.suspect if fault.amount > 0.8 else keys.normal


@fault
async def group_destroyed(stage: Stage, fault: Fault) -> None:
    """What was in hand is ready again, while it is in hand."""
    happened(fault, _stream(stage, fault))
    await _each_server(stage, "XGROUP", "DESTROY", _stream(stage, fault), GROUP)


@fault
async def consumer_deleted(stage: Stage, fault: Fault) -> None:
    """What a consumer held is in nobody's hands any more and behind what is still to be read."""
    stream = _stream(stage, fault)
    happened(fault, stream)

    def run() -> None:
        for client in stage.servers.clients():
            with client, suppress(redis.RedisError):
                consumers: list[dict[str, bytes]] = client.xinfo_consumers(stream, GROUP)
                for consumer in consumers:
                    client.xgroup_delconsumer(stream, GROUP, consumer["name"])

    await asyncio.to_thread(run)


@fault
async def server_full(stage: Stage, fault: Fault) -> None:
    happened(fault, "server")
    await _each_server(stage, "CONFIG", "SET", "maxmemory", "1mb")
    await asyncio.sleep(0.5 + fault.amount * 2)
    for _ in range(3):  # it may be restarting
        await _each_server(stage, "CONFIG", "SET", "maxmemory", "0")
        await asyncio.sleep(0.1)


# -- the network -------------------------------------------------------------------------------------


def _role(fault: Fault) -> str:
    return ROLES[fault.target % len(ROLES)]


@fault
async def latency(stage: Stage, fault: Fault) -> None:
    happened(fault, _role(fault))
    stage.servers.weather(_role(fault), "latency", seconds=0.02 + fault.amount * 0.4)
    await asyncio.sleep(2)
    stage.servers.weather(_role(fault), "clear")


@fault
async def reset(stage: Stage, fault: Fault) -> None:
    happened(fault, _role(fault))
    stage.servers.weather(_role(fault), "reset")


@fault
async def replies_dropped(stage: Stage, fault: Fault) -> None:
    """What was asked is done, and nobody is told."""
    happened(fault, _role(fault))
    stage.servers.weather(_role(fault), "drop_replies", number=1 + int(fault.amount * 8))


@fault
async def black_hole(stage: Stage, fault: Fault) -> None:
    """Nothing gets through and nothing is closed; what was sent meanwhile arrives afterwards."""
    happened(fault, _role(fault))
    stage.servers.weather(_role(fault), "black_hole")
    await asyncio.sleep(1 + fault.amount * LEASE * 2)
    stage.servers.weather(_role(fault), "clear")


@fault
async def half_open(stage: Stage, fault: Fault) -> None:
    happened(fault, _role(fault))
    stage.servers.weather(_role(fault), "half_open")
