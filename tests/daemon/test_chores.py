"""The daemon's chores are one table: its loops, its health and its options agree."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from typing import Any

import pytest

from streamq import Daemon, DaemonOptions, StreamQ
from streamq.daemon import loop
from streamq.daemon.chore_status import ChoreStatus
from streamq.daemon.chores import CHORES
from streamq.daemon.loop import Faults, for_each, in_batches, run_periodically
from streamq.errors import RedisUnavailable, ServerError
from streamq.keys import TypeKeys, type_keys
from streamq.telemetry.counters import Counters
from streamq.transport.address import Address
from streamq.transport.async_transport import AsyncTransport
from tests.ports import free_port
from tests.running import QUICK, begun, until


def test_every_interval_is_a_chores_and_every_chore_knows_its_own() -> None:
    options = {one.name for one in fields(DaemonOptions) if one.name.endswith(("_interval", "heartbeat"))}
    assert {chore.interval_option for chore in CHORES if chore.interval_option} == options
    assert len({chore.name for chore in CHORES}) == len(CHORES)
    for chore in CHORES:
        assert chore.interval(DaemonOptions()) > 0
    for name in options:  # each is seconds in whatever form it is given
        given: Any = {name: "1m"}
        assert getattr(DaemonOptions(**given), name) == 60.0


async def test_every_chore_of_the_table_runs_and_is_looked_after(app: StreamQ) -> None:
    ran: set[str] = set()
    daemon = Daemon(app.address, QUICK, after_round=ran.add)
    task = await begun(daemon)
    names = {chore.name for chore in CHORES}
    await until(lambda: ran >= names - {"heartbeat", "sample"}, 20)
    assert daemon.facts().overdue == ""
    daemon._chore_status._started -= 10_000
    daemon._chore_status._succeeded.clear()
    assert set(daemon.facts().overdue.split(", ")) == names
    daemon.stop()
    await task


async def test_a_fault_keeps_no_other_from_its_turn_and_is_counted() -> None:
    faults, seen = Faults("tidy", ChoreStatus(Counters())), list[str]()
    types = [type_keys("shop", 0, name) for name in ("a", "bad", "c", "gone")]

    async def step(keys: TypeKeys) -> None:
        seen.append(keys.type)
        if keys.type == "bad":
            raise ServerError("WRONGTYPE")
        if keys.type == "gone":
            raise RedisUnavailable("away")

    with pytest.raises(RedisUnavailable):
        await for_each(types, step, faults)
    assert seen == ["a", "bad", "c", "gone"]
    assert faults.found == ["WRONGTYPE"]

    async def batch(some: object) -> None:
        assert isinstance(some, list)
        seen.append(",".join(keys.type for keys in some))
        if any(keys.type == "bad" for keys in some):
            raise ValueError("one of them")

    seen.clear()
    await in_batches(types, batch, faults)
    assert seen == ["a,bad,c,gone", "a", "bad", "c", "gone"]
    assert len(faults.found) == 2


async def test_after_an_outage_a_chore_may_run_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon's own heartbeat: workers look for it."""
    stop, rounds = asyncio.Event(), list[int]()
    transport = AsyncTransport(Address.parse(f"redis://127.0.0.1:{free_port()}"))

    async def back(*_: object, **__: object) -> bool:
        return True

    monkeypatch.setattr(loop, "_wait_for_redis", back)

    async def step(_: Faults) -> None:
        rounds.append(len(rounds))
        if len(rounds) < 3:
            raise RedisUnavailable("away")

    chore = run_periodically(
        "heartbeat", step, 3600, transport, stop, ChoreStatus(Counters()), after_outage=0.01
    )
    task = asyncio.create_task(chore)
    await until(lambda: len(rounds) == 3, 20)
    stop.set()
    await task
    assert len(rounds) == 3
    await transport.aclose()
