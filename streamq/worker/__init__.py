"""Workers: fetch -> run -> settle, with leases renewed beside it.

`group` is the supervisor of a host's processes, `process` the life of one, `fetcher`, `runner` and
`settler` the way of a task, `leases` the thread that keeps deliveries ours, `executors` where handlers
run. Values flow one way; only the settler writes outcomes.
"""

from streamq.worker.group import WorkerGroup
from streamq.worker.process import Worker

__all__ = ["Worker", "WorkerGroup"]
