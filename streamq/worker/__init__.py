"""Workers: fetch -> run -> settle, while a thread renews the leases.

`worker` is the lifecycle of a worker process and `assembly` builds its parts. A task passes through
`fetcher`, `receiver`, `runner`, `attempts` and `settler`; `executors` run its handler; `leases` is the thread
that renews leases. Values flow one way, and only the settler writes outcomes. The processes of a host are
supervised by `streamq.supervisor`.
"""
