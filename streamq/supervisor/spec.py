"""What a supervisor tells a process that it starts.

Owns the value; it travels to the new process, so it holds plain values only.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamq.options.service import WorkerOptions


@dataclass(frozen=True, slots=True)
class Launch:
    """What a child process needs to know. `app` is `module:attribute`."""

    app: str
    url: str | None
    options: WorkerOptions
    group: str
    log_level: str
    log_format: str
    reports: bool = False
    prefix: str | None = None
    imports: tuple[str, ...] = ()
