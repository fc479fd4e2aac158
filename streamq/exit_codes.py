"""The exit codes of every streamq process and command. Those from 69 on follow sysexits.h as far as it goes.

Owns the numbers. Must not import anything of streamq.
"""

from __future__ import annotations

from typing import Final

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
UNHEALTHY: Final = 6
"""The audit found a broken invariant, the doctor a fault, or a check an unhealthy process."""
UNREACHABLE: Final = 69
"""The server is unreachable, or too old."""
WEDGED: Final = 70
"""The worker's event loop was blocked for so long that it gave up its leases and exited."""
FORKED: Final = 70
"""A handler forked, and the child returned from it as a copy of its worker, which was ended."""
WORN_OUT: Final = 75
"""The worker has run its maximum number of tasks; another replaces it."""
DRAINED: Final = 76
"""An operator drained this worker; no other replaces it."""
DENIED: Final = 77
"""The server refused the login or a command."""
CONFIG: Final = 78
"""The configuration is invalid, or the app cannot be imported."""
INTERRUPTED: Final = 130
