"""sd_notify: tells systemd when a unit is ready, alive and stopping. Silent where systemd is not there."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(**said: str | int) -> bool:
    """Send `READY=1` and the like; answers whether there was somebody to tell. Never raises."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    text = "\n".join(f"{name}={value}" for name, value in said.items())
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.settimeout(1.0)
        out.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)
        return True
    return False


def watchdog() -> float | None:
    """Seconds between two WATCHDOG=1: half of what the unit asks for; None where it does not."""
    micros, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not micros.isdigit() or int(micros) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(micros) / 2_000_000
