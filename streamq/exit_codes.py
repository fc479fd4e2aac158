"""The exit codes of every streamq process and command. Those from 69 on follow sysexits.h where it has one.

Owns the numbers and nothing else.
"""

from __future__ import annotations

from typing import Final

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
UNHEALTHY: Final = 6
"""An audit found a broken invariant, the doctor a fault, or a check no health."""
UNREACHABLE: Final = 69
"""The server cannot be reached, or is too old."""
WEDGED: Final = 70
"""The worker's event loop stood still for so long that its leases were given up; it ended itself."""
FORKED: Final = 70
"""A handler forked, and the child came back from it as a copy of its worker; it was ended."""
WORN_OUT: Final = 75
"""The worker has run as many tasks as it was to run; another takes its place."""
DRAINED: Final = 76
"""An operator asked this worker to end; no other takes its place."""
DENIED: Final = 77
"""The server refused the login or a command."""
CONFIG: Final = 78
"""The configuration is wrong, or the app cannot be imported."""
INTERRUPTED: Final = 130
