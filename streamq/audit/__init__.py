"""The audit: checks every invariant of a live queue, in bounded steps, and repairs faults.

Owns the possible faults of stored data, and their repair. A walk finds suspects, a look checks these at one
instant, and a repair is one script that checks again before it writes, so the queue may go on working. Must
not write without being asked to repair.
"""

from streamq.audit.auditor import Auditor, Mode
from streamq.audit.fault import FAULTS, Audit, Problem, Repaired
from streamq.calls.audit import FaultCode

__all__ = ["FAULTS", "Audit", "Auditor", "FaultCode", "Mode", "Problem", "Repaired"]
