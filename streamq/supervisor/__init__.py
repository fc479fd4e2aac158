"""The supervisor: starts, watches, restarts and stops a group of processes on one host.

Owns the processes and their reports. Must not run a task: `worker` and `daemon` do the work.
"""
