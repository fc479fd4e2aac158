"""Notifies systemd of a service's state: ready, alive, stopping.

Owns the thread that does so. It feeds the watchdog only while every process is alive in the sense of /live,
so systemd restarts a group whose event loops are blocked although its supervisor is healthy.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol

from streamq.probes import systemd


class Watched(Protocol):
    """The service whose state is sent."""

    def not_alive(self) -> list[str]: ...
    def not_ready(self) -> list[str]: ...


class SystemdNotifier:
    """Sends the state of one unit once a second, or more often if the watchdog needs it."""

    def __init__(self, service: Watched) -> None:
        self._service = service
        self._watchdog = systemd.watchdog()
        self._stopped = threading.Event()
        self._ready = False
        self._thread = threading.Thread(target=self._run, name="streamq-systemd", daemon=True)

    @staticmethod
    def is_available() -> bool:
        """Return whether systemd expects notifications."""
        return bool(os.environ.get("NOTIFY_SOCKET"))

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait up to 2 s for it."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def _run(self) -> None:
        while not self._stopped.wait(min(1.0, self._watchdog or 1.0)):
            self.send()

    def send(self) -> None:
        """Send the current state."""
        not_alive, not_ready = self._service.not_alive(), self._service.not_ready()
        if not not_ready and not self._ready:
            self._ready = systemd.notify(READY=1)
        fields: dict[str, str | int] = {"STATUS": (not_alive or not_ready or ["ready"])[0][:200]}
        if self._watchdog is not None and not not_alive:
            fields["WATCHDOG"] = 1
        systemd.notify(**fields)
