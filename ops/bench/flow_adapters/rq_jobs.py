"""RQ's handlers: it finds them by the name of their module."""

from __future__ import annotations

import record
from rq import get_current_job


def number(n: int) -> int:
    return n


def results() -> list[int]:
    return [job.return_value() for job in get_current_job().fetch_dependencies()]


def before() -> int:
    return results()[0]


def end(stamp: int) -> None:
    results()
    record.mark(stamp)
