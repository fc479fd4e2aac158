"""A worker that starts again when a file of the project changes: Django's own reloader around a process.

Owns that process. The reloader runs its function in a thread, and a worker group needs the main thread for
its signals: so the worker is a process beside it, which is drained shortly before each reload.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Final

from django.utils import autoreload

_DRAIN: Final = ("--drain-timeout", "2s")
_LINGER: Final = 10.0
"""Seconds for the process to end after it was asked to."""
_RELOADER: Final = "RELOADER_OF_STREAMQ"
_POLL: Final = 0.25
"""Seconds between two looks at whether the reloader is still there."""


def run(words: Sequence[str]) -> int:
    """Run `manage.py streamq` with these words until it is stopped, again after each change."""
    more = () if any(word.startswith("--drain-timeout") for word in words) else _DRAIN
    autoreload.run_with_reloader(_serve, [*words, *more])
    return 0


def _serve(words: Sequence[str]) -> None:
    command = [sys.executable, sys.argv[0], "streamq", *_once(words)]
    process = subprocess.Popen(command, env={**os.environ, _RELOADER: str(os.getpid())})  # noqa: S603 - this command again
    atexit.register(_end, process)
    process.wait()
    if process.returncode:
        sys.stderr.write(
            f"the worker has ended with {process.returncode}: it starts again with the next change\n"
        )


def follow() -> None:
    """End this process as SIGTERM does when the reloader that started it has ended. Django kills its reloader
    when `manage.py` is asked to end, and a killed process ends nothing that it started."""
    reloader = os.environ.pop(_RELOADER, "")
    if reloader.isdecimal():
        threading.Thread(target=_follow, args=(int(reloader),), name="streamq-reloader", daemon=True).start()


def _follow(reloader: int) -> None:
    while os.getppid() == reloader:
        time.sleep(_POLL)
    os.kill(os.getpid(), signal.SIGTERM)


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
