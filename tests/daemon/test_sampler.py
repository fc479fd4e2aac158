"""The first sample of an app that is new: what its counters say happened since the round before."""

from __future__ import annotations

from streamq import StreamQ
from streamq.daemon.chore_status import ChoreStatus
from streamq.daemon.discovery import Discovery
from streamq.daemon.loop import Faults
from streamq.daemon.sampler import Sampler
from streamq.keys import shard_keys, type_keys
from streamq.telemetry.counters import Counters
from streamq.transport.async_transport import AsyncTransport
from tests.conftest import command


async def test_an_app_that_begins_between_two_rounds_is_counted_from_its_first_task_on(app: StreamQ) -> None:
    transport = AsyncTransport(app.address)
    discovery, faults = Discovery(transport), Faults("sample", ChoreStatus(Counters()))
    sampler = Sampler(transport, discovery)
    await discovery.refresh(faults)
    assert discovery.shards() == []
    await sampler.round(faults)

    @app.task
    async def work(n: int) -> None: ...

    await app.aenqueue_many([work.bind(n) for n in range(500)])
    await discovery.refresh(faults)
    await sampler.round(faults)
    counts = [row.counts.get("accepted", 0) for row in await app.ainspector.rollups("work")]
    assert sum(counts) == 500
    await transport.aclose()


async def test_what_was_sent_before_the_very_first_daemon_is_counted(app: StreamQ) -> None:
    @app.task
    async def work(n: int) -> None: ...

    await app.aenqueue_many([work.bind(n) for n in range(5)])
    transport = AsyncTransport(app.address)
    await _first_round(transport)
    counts = [row.counts.get("accepted", 0) for row in await app.ainspector.rollups("work")]
    assert sum(counts) == 5
    await transport.aclose()


async def test_what_was_sent_long_before_the_very_first_daemon_is_no_rate(app: StreamQ, url: str) -> None:
    @app.task
    async def work(n: int) -> None: ...

    await app.aenqueue_many([work.bind(n) for n in range(5)])
    transport = AsyncTransport(app.address)
    t = type_keys(app.name, 0, "work")
    at = command(url, "HGET", t.sampled, "at")
    assert isinstance(at, bytes)
    command(url, "HSET", t.sampled, "at", int(at) - 100_000)
    await _first_round(transport)
    assert not any(row.counts.get("accepted") for row in await app.ainspector.rollups("work"))
    await transport.aclose()


async def test_a_type_that_an_older_release_registered_is_counted_from_its_first_sample_on(
    app: StreamQ, url: str
) -> None:
    @app.task
    async def work(n: int) -> None: ...

    await app.aenqueue_many([work.bind(n) for n in range(5)])
    transport = AsyncTransport(app.address)
    t = type_keys(app.name, 0, "work")
    command(url, "DEL", t.sampled)
    sampler = await _first_round(transport)
    await app.aenqueue_many([work.bind(n) for n in range(7)])
    await sampler.round(_faults())
    counts = [row.counts.get("accepted", 0) for row in await app.ainspector.rollups("work")]
    assert sum(counts) == 7
    await transport.aclose()


async def test_a_type_that_is_registered_again_is_not_counted_twice(app: StreamQ, url: str) -> None:
    @app.task
    async def work(n: int) -> None: ...

    await app.aenqueue_many([work.bind(n) for n in range(5)])
    transport = AsyncTransport(app.address)
    sampler = await _first_round(transport)
    command(url, "SREM", shard_keys(app.name, 0).types, "work")
    again = StreamQ(app.name, url)
    again.task(work.handler.function)
    await again.aconnect()
    await sampler.round(_faults())
    counts = [row.counts.get("accepted", 0) for row in await app.ainspector.rollups("work")]
    assert sum(counts) == 5
    await again.aclose()
    await transport.aclose()


async def _first_round(transport: AsyncTransport) -> Sampler:
    discovery = Discovery(transport)
    await discovery.refresh(_faults())
    sampler = Sampler(transport, discovery)
    await sampler.round(_faults())
    return sampler


def _faults() -> Faults:
    return Faults("sample", ChoreStatus(Counters()))


async def test_a_user_with_the_rights_of_an_older_release_registers(url: str) -> None:
    """It may not write the sample: that costs a figure, not the registration."""
    rights = ("on", ">secret", "&*", "~*", "+@all", "-hset", "(+hset ~*:policy ~*:counters ~*apps)")
    command(url, "ACL", "SETUSER", "older", *rights)
    app = StreamQ("shop", url.replace("unix://", "unix://older:secret@"))

    @app.task
    async def work(n: int) -> None: ...

    try:
        await app.aenqueue_many([work.bind(n) for n in range(5)])
        assert command(url, "EXISTS", type_keys("shop", 0, "work").sampled) == 0
        assert (await app.ainspector.type_stats("work")).ready == 5
    finally:
        await app.aclose()
        command(url, "ACL", "DELUSER", "older")
