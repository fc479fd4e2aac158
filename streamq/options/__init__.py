"""Options: frozen, validated, one documented field each.

Owns the policy of a task type, what a single call may set otherwise, and the settings of worker and
daemon. Durations are seconds, timedelta or text such as "5m" in the public API and seconds (float) in
these values. Does no I/O and reads no environment. A producer loads no settings of workers.
"""
