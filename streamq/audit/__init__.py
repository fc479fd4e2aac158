"""The audit: every invariant of a live queue, checked in bounded steps; and the repair of what can be.

Owns what may be wrong with stored data and how it is put right. Looking writes nothing. A walk finds what
wants a closer look, a look judges it at one instant, and a repair is one script that looks again before it
writes, so a queue may go on working meanwhile.
"""

from streamq.audit.auditor import Auditor, Mode
from streamq.audit.fault import FAULTS, Audit, Problem, Repaired
from streamq.calls.audit import FaultCode

__all__ = ["FAULTS", "Audit", "Auditor", "FaultCode", "Mode", "Problem", "Repaired"]
