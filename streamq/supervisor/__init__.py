"""The supervisor: a group of processes on one host, started, watched, replaced and ended.

Owns the processes and what they report. Runs no task; a process's own life is in `worker` and `daemon`.
"""
