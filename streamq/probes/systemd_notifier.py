"""Keeps systemd informed: ready, alive, stopping.

Owns that thread. The watchdog is fed only while every process is alive as /live says, so a group whose
event loops are blocked is restarted although its supervisor is well.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol

from streamq.probes import systemd


class Watched(Protocol):
    """What is to be told of."""

    def not_alive(self) -> list[str]: ...
    def not_ready(self) -> list[str]: ...


class SystemdNotifier:
    """Of one unit: looks once a second, or as often as the watchdog wants it."""

    def __init__(self, service: Watched) -> None:
        self._service = service
        self._watchdog = systemd.watchdog()
        self._stopped = threading.Event()
        self._ready = False
        self._thread = threading.Thread(target=self._run, name="streamq-systemd", daemon=True)

    @staticmethod
    def wanted() -> bool:
        """Whether systemd listens."""
        return bool(os.environ.get("NOTIFY_SOCKET"))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def _run(self) -> None:
        while not self._stopped.wait(min(1.0, self._watchdog or 1.0)):
            self.look()

    def look(self) -> None:
        """Tell what is to be told now."""
        dead, late = self._service.not_alive(), self._service.not_ready()
        if not late and not self._ready:
            self._ready = systemd.notify(READY=1)
        said: dict[str, str | int] = {"STATUS": (dead or late or ["ready"])[0][:200]}
        if self._watchdog is not None and not dead:
            said["WATCHDOG"] = 1
        systemd.notify(**said)
