"""Refuses to start a worker while a child process imports the program that started it.

A child process for `executor="process"` imports the program's main module first. Without a guard there, the
program would start once more in each child. Owns the check and its error.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from streamq.errors import UsageError

FIX: Final = 'put what starts the worker under `if __name__ == "__main__":`'


def refuse() -> None:
    """Raise UsageError if this process is a child that still imports its parent's main module."""
    started: Any = sys.modules.get("multiprocessing.process")
    if started is not None and getattr(started.current_process(), "_inheriting", False):
        raise UsageError(
            f"a worker cannot start here: a child process is importing the program, which starts one: {FIX}"
        )
