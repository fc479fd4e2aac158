"""The first sample of an app that is new: what its counters say happened since the round before."""

from __future__ import annotations

from streamq import StreamQ
from streamq.daemon.chore_status import ChoreStatus
from streamq.daemon.discovery import Discovery
from streamq.daemon.loop import Faults
from streamq.daemon.sampler import Sampler
from streamq.telemetry.counters import Counters
from streamq.transport.async_transport import AsyncTransport


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


async def test_what_was_there_before_the_daemon_is_no_rate(app: StreamQ) -> None:
    @app.task
    async def work(n: int) -> None: ...

    await app.aenqueue_many([work.bind(n) for n in range(5)])
    transport = AsyncTransport(app.address)
    discovery, faults = Discovery(transport), Faults("sample", ChoreStatus(Counters()))
    await discovery.refresh(faults)
    await Sampler(transport, discovery).round(faults)
    assert not any(row.counts.get("accepted") for row in await app.ainspector.rollups("work"))
    await transport.aclose()
