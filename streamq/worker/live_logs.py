"""The log records of handlers, for those who watch their tasks: of types with `logs=`.

Owns the handler of the standard library's logging that hands them on. Must not send, nor fail a handler.
"""

from __future__ import annotations

import logging
from typing import Final

from streamq.context import CURRENT
from streamq.running_context import log

OURS: Final = "streamq"
"""The loggers of streamq tell of attempts, not what handlers say."""


class _Watched(logging.Handler):
    """Hands a record of a running attempt to its task's watchers."""

    def emit(self, record: logging.LogRecord) -> None:
        context = CURRENT.get(None)
        if context is None or record.name.partition(".")[0] == OURS:
            return
        try:
            log(context, record.levelno, record.name, record.getMessage())
        except Exception:  # noqa: BLE001 - a wrong format in a record: logging tells it as it always does
            self.handleError(record)


_HANDLER: Final = _Watched()


def install() -> None:
    """Hand on what is logged in this process from now on; a second call does nothing."""
    root = logging.getLogger()
    if _HANDLER not in root.handlers:
        root.addHandler(_HANDLER)
