"""What a process tells of itself: logs, metrics, traces, health. Decides nothing about a task.

Imports nothing heavy by itself: structlog, prometheus_client and opentelemetry are loaded where they are
first needed, and where nobody asks for metrics or traces they are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamq import lazy

if TYPE_CHECKING:
    from streamq.telemetry.logs import FORMATS as FORMATS
    from streamq.telemetry.logs import LEVELS as LEVELS
    from streamq.telemetry.logs import always as always
    from streamq.telemetry.logs import configure as configure
    from streamq.telemetry.logs import get_logger as get_logger

__all__, _named = lazy.names(  # pyright: ignore[reportUnsupportedDunderAll]
    __name__, {"logs": ("FORMATS", "LEVELS", "always", "configure", "get_logger")}
)


def __getattr__(name: str) -> object:
    return _named(name)
