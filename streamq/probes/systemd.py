"""The sd_notify protocol: sends a unit's state to systemd.

Owns the datagram. Does nothing without systemd, and never raises.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(**fields: str | int) -> bool:
    """Send fields such as `READY=1`. Return whether they were sent. Never raises."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    text = "\n".join(f"{name}={value}" for name, value in fields.items())
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.settimeout(1.0)
        out.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)
        return True
    return False


def watchdog() -> float | None:
    """Return the seconds between two WATCHDOG=1: half of the unit's limit; None if it has no watchdog."""
    micros, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not micros.isdigit() or int(micros) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(micros) / 2_000_000
