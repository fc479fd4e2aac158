"""Notes in the rollups what was counted since the last look: what charts and rates are made of.

Owns the rounds. The counting is one script, so that any number of daemons may sample.
"""

from __future__ import annotations

from streamq import calls
from streamq.daemon.directory import Directory
from streamq.transport import AsyncTransport


class Sampler:
    """Samples all task types, once a round."""

    def __init__(self, transport: AsyncTransport, directory: Directory) -> None:
        self._transport = transport
        self._directory = directory

    async def round(self) -> None:
        now_ms = await self._transport.run(calls.now(), patience=0)
        for keys in self._directory.types():
            await self._transport.run(calls.sample(keys, now_ms), patience=0)
