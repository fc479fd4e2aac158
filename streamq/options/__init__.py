"""Define options: frozen values, validated, with one documented field each.

Owns the policy of a task type, what a single call may override, and the settings of worker and daemon.
Durations are seconds, a timedelta or text such as "5m" in the public API, and seconds (float) in these
values. Does no I/O and reads no environment. A producer does not load the settings of workers.
"""
