"""Ends a process that a handler forked and that came back from the handler as a second copy of its worker.

Such a copy would settle what its parent runs, over the parent's connections. Owns the message and the
exit; a child that a handler starts and ends itself (multiprocessing, subprocess, os._exit) never gets here.
"""

from __future__ import annotations

import os
from typing import Final, NoReturn

from streamq import exit_codes

_TOLD: Final = (
    b"streamq: a handler forked, and the child came back from it as a copy of its worker: it was ended. "
    b"End a forked child with os._exit(), or start it with multiprocessing or subprocess\n"
)


def end_child(*_args: object) -> NoReturn:
    """End this process at once; nothing that it has from its parent is flushed, closed or told."""
    os.write(2, _TOLD)
    os._exit(exit_codes.FORKED)
