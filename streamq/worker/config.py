"""What a worker is made from, before it has met a server.

Owns that value, which its parts share. Does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamq.options.service import WorkerOptions
from streamq.registry.registry import Registry
from streamq.telemetry.counters import Counters
from streamq.transport.address import Address
from streamq.transport.async_transport import AsyncTransport
from streamq.worker.registration import Registration
from streamq.worker.stop import StopState


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Of one worker. exclusive: the process is ours, so it may be ended where nothing else helps. metered:
    what every task takes is added up."""

    name: str
    group: str
    registry: Registry
    types: list[str]
    options: WorkerOptions
    address: Address
    transport: AsyncTransport
    registration: Registration
    counters: Counters
    stop: StopState
    exclusive: bool
    metered: bool
