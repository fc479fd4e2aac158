"""All options of task types and of calls, by name.

Owns the tables that others read: command line, documentation, envelope. An option is declared in `task` or
`call`; its static type for callers in `typed`; a test checks that they agree.
"""

from __future__ import annotations

from typing import Final

from streamq.options.call import PER_CALL
from streamq.options.task import POLICY

__all__ = ["OPTIONS", "PER_CALL", "POLICY", "STORED"]

OPTIONS: Final = (*POLICY.values(), *(one for one in PER_CALL.values() if not one.policy))
STORED: Final = {name: one.stored for name, one in PER_CALL.items() if one.stored is not None}
