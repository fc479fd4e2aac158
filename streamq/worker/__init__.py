"""Workers: fetch -> run -> settle, with leases renewed beside it.

`group` is the supervisor of a host's processes, `launch` what it and they have agreed on, `member` the
inside of such a process, `process` the life of a worker, `fetcher`, `runner`, `attempts` and `settler` the
way of a task, `leases` the thread that keeps deliveries ours, `executors` where handlers run. Values flow
one way; only the settler writes outcomes.
"""
