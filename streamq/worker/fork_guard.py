"""Ends a process that a handler forked and that returned from the handler as a copy of the worker.

Such a copy would settle its parent's tasks over the parent's connections. Owns the message and the exit. A
child that the handler itself starts and ends (multiprocessing, subprocess, os._exit) is not affected.
"""

from __future__ import annotations

import os
from typing import Final, NoReturn

from streamq import exit_codes

_MESSAGE: Final = (
    b"streamq: process ended: a handler forked, and the child returned from it as a copy of the worker. "
    b"End a forked child with os._exit(), or start it with multiprocessing or subprocess.\n"
)


def end_child(*_args: object) -> NoReturn:
    """End this process at once, without flushing or closing anything that belongs to its parent."""
    os.write(2, _MESSAGE)
    os._exit(exit_codes.FORKED)
