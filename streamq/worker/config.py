"""The configuration of a worker, complete before it connects to Redis.

Owns that value, which the worker's parts share. Has no behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamq.options.service import WorkerOptions
from streamq.registry.registry import Registry
from streamq.resources.opened import OpenResources
from streamq.telemetry.counters import Counters
from streamq.transport.address import Address
from streamq.transport.async_transport import AsyncTransport
from streamq.worker.registration import Registration
from streamq.worker.stop import StopState


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The configuration of one worker. exclusive: the worker owns its process and may kill it as a last
    resort. metered: collect metrics of every task."""

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
    opened: OpenResources
    exclusive: bool
    metered: bool
