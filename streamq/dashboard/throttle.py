"""Throttle the guessing of passwords: failed logins by peer.

Owns the count of failures and the waiting times. A peer that must wait is refused before its password is
checked, so each guess costs the wait. Bounded in memory; uses only the clock that it is given.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

FREE: Final = 5
"""Failures without a wait: people mistype."""
LONGEST: Final = 60.0
"""The longest wait in seconds."""
FORGIVEN: Final = 60.0
"""Seconds without a failure after which one is forgotten."""
MOST: Final = 10_000
"""Peers that are kept; the one that failed longest ago is dropped first."""


@dataclass(slots=True)
class _Peer:
    failures: float = 0.0
    last: float = 0.0
    until: float = 0.0


class Throttle:
    """Failed logins of all peers. Used in one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._peers: OrderedDict[str, _Peer] = OrderedDict()

    def wait(self, peer: str) -> float:
        """Return the seconds that this peer must wait before it may try again; 0 if it may."""
        known = self._peers.get(_block(peer))
        return 0.0 if known is None else max(0.0, known.until - self._clock())

    def failed(self, peer: str) -> float:
        """Count a failed login. Return the seconds that the peer must wait now."""
        now, block = self._clock(), _block(peer)
        known = self._peers.setdefault(block, _Peer())
        self._peers.move_to_end(block)
        known.failures = max(0.0, known.failures - (now - known.last) / FORGIVEN) + 1.0
        known.last = now
        if known.failures > FREE:
            known.until = now + min(LONGEST, 2.0 ** (known.failures - FREE - 1))
        if len(self._peers) > MOST:
            self._peers.popitem(last=False)
        return self.wait(peer)


def _block(peer: str) -> str:
    """Return the addresses that one client can use: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return peer
    return peer if address.version == 4 else str(ipaddress.ip_network((int(address), 64), strict=False))
