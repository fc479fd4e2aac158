"""What happens after a fork, on systems that have it.

Owns the registration. On Windows there is no fork, and nothing to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable


def after_fork(function: Callable[[], object]) -> None:
    """Call a function in each child process that is forked from this one, before anything else."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
