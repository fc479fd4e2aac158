"""A worker that starts again when a file of the project changes: Django's own reloader around a process.

Owns that process. The reloader runs its function in a thread, and a worker group needs the main thread for
its signals: so the worker is a process beside it, which is drained shortly before each reload.
"""

from __future__ import annotations

import atexit
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from django.utils import autoreload

_DRAIN: Final = ("--drain-timeout", "2s")
_LINGER: Final = 10.0
"""Seconds for the process to end after it was asked to."""


def run(words: Sequence[str]) -> int:
    """Run `manage.py streamq` with these words until it is stopped, again after each change."""
    more = () if any(word.startswith("--drain-timeout") for word in words) else _DRAIN
    autoreload.run_with_reloader(_serve, [*words, *more])
    return 0


def _serve(words: Sequence[str]) -> None:
    process = subprocess.Popen([sys.executable, sys.argv[0], "streamq", *_once(words)])  # noqa: S603 - this command again
    atexit.register(_end, process)
    process.wait()
    if process.returncode:
        sys.stderr.write(
            f"the worker has ended with {process.returncode}: it starts again with the next change\n"
        )


def _once(words: Sequence[str]) -> list[str]:
    """Return the words without the app: the command adds it again."""
    return [word for n, word in enumerate(words) if n != 1]


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_LINGER)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
