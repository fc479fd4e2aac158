"""A daemon that forgets idle consumers within seconds: `python -m tests.chaos.daemon URL`.

`streamq daemon` waits an hour for that. A consumer that is removed while its worker is only stopped is a
fault that this one brings of its own accord.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from streamq import Daemon, DaemonOptions
from streamq.telemetry import logs
from streamq.transport.address import Address
from tests.chaos import sabotage

sabotage.apply()
OPTIONS = DaemonOptions(claim_interval=0.5, tidy_interval=2, discover_interval=2, consumer_idle=4)


async def main(url: str) -> None:
    logs.configure("info", "json")
    daemon = Daemon(Address.parse(url), OPTIONS)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, daemon.stop)
    await daemon.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
