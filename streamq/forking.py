"""What happens after a fork, on systems that have it.

Owns the registration. On Windows there is no fork, and nothing to do. uWSGI forks its processes without
telling Python, so that hooks of `os.register_at_fork` are not called: it has a hook of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def after_fork(function: Callable[[], object]) -> None:
    """Call a function in each child process that is forked from this one, before anything else. It may be
    called twice."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
    if (uwsgi := sys.modules.get("uwsgi")) is not None:
        _after_fork_of_uwsgi(uwsgi, function)


def _after_fork_of_uwsgi(uwsgi: Any, function: Callable[[], object]) -> None:
    """Call a function in each process of uWSGI. Its decorators replace a hook that is set before they are
    imported, so they come first; they refuse to be imported where there is no master."""
    try:
        import_module("uwsgidecorators").postfork(function)
    except Exception:  # noqa: BLE001 - that they raise
        before = getattr(uwsgi, "post_fork_hook", None)

        def hook() -> None:
            if before is not None:
                before()
            function()

        uwsgi.post_fork_hook = hook
