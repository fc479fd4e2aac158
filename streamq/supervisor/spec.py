"""The configuration that a supervisor passes to a process that it starts.

Owns that value. It is pickled for the new process, so it must hold plain values only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from streamq.options.service import WorkerOptions

READY: Final = "ready"
RECYCLE: Final = "recycle"
"""Notices of a worker: it takes tasks; it should be replaced."""


@dataclass(frozen=True, slots=True)
class Launch:
    """The configuration of a child process. `app` is `module:attribute`; `reports`: it sends reports."""

    app: str
    url: str | None
    options: WorkerOptions
    group: str
    log_level: str
    log_format: str
    reports: bool = False
    prefix: str | None = None
    imports: tuple[str, ...] = ()
