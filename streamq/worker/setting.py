"""What a worker is made from, before it has met a server.

Owns that value, which its parts share. Does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamq.app import Registry
from streamq.options import WorkerOptions
from streamq.telemetry.sums import Sums
from streamq.transport import Address, AsyncTransport
from streamq.worker.presence import Presence
from streamq.worker.stopping import Stop


@dataclass(frozen=True, slots=True)
class Setting:
    """Of one worker. exclusive: the process is ours, so it may be ended where nothing else helps. metered:
    what every task takes is added up."""

    name: str
    group: str
    registry: Registry
    types: list[str]
    options: WorkerOptions
    address: Address
    transport: AsyncTransport
    presence: Presence
    sums: Sums
    stop: Stop
    exclusive: bool
    metered: bool
