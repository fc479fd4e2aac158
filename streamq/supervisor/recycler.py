"""Replaces worker processes that ask for it: the new one takes tasks before the old one drains.

Owns the order of a replacement, one at a time, so that a group never has more than one process too many. Must
not decide when a process is replaced: the process asks.
"""

from __future__ import annotations

from collections import deque

from streamq.supervisor.group_status import GroupStatus
from streamq.supervisor.spec import READY, RECYCLE
from streamq.supervisor.supervised_process import SupervisedProcess
from streamq.telemetry import logs


class Recycler:
    """The replacements in a group. members: of the group, which get the new processes."""

    def __init__(self, members: list[SupervisedProcess], status: GroupStatus) -> None:
        self._members, self._status = members, status
        self._asking: deque[SupervisedProcess] = deque()
        self._made = len(members)
        self._log = logs.get_logger()

    def handle_notices(self, *, stopping: bool) -> None:
        """Handle what processes have told, and begin the next replacement. stopping: begin none."""
        for member in list(self._members):
            notice = member.notice()
            if notice == RECYCLE:
                self._asking.append(member)
            elif notice == READY and member.replaces is not None:
                self._take_over(member)
        if not stopping and self._asking and not any(member.replaces for member in self._members):
            self._begin(self._asking.popleft())

    def _begin(self, member: SupervisedProcess) -> None:
        if member.process is None:
            return  # it ended meanwhile, and its restart is the replacement
        self._made += 1
        found = member.successor(f"streamq-worker-{self._made}")
        self._members.append(found)
        self._log.info("process.replaces", process=found.name, instead_of=member.name)

    def _take_over(self, new: SupervisedProcess) -> None:
        """Drain the process that a new one replaces."""
        old, new.replaces = new.replaces, None
        if old is None:
            return
        self._status.expect(new.name, old.name)
        old.is_replaced = True
        old.terminate()
        if old.process is None:
            self._remove(old)

    def ended(self, member: SupervisedProcess, code: int) -> bool:
        """Return whether the end of this process is part of a replacement; it is not restarted then."""
        if member.is_replaced:
            self._log.info("process.recycled", process=member.name, code=code)
            self._remove(member)
            return True
        if member.replaces is not None:
            self._log.error(
                "process.not_replaced", process=member.name, instead_of=member.replaces.name, code=code,
                fix="the new process did not start, so the old one keeps running: see its log",
            )  # fmt: skip
            self._remove(member)
            return True
        for other in self._members:
            if other.replaces is member:  # it crashed: the new one takes its place
                other.replaces = None
                self._status.expect(other.name, member.name)
                self._remove(member)
                return True
        return False

    def _remove(self, member: SupervisedProcess) -> None:
        member.start_at = None
        self._members.remove(member)
