"""Puts tasks in: a sync and an async client over the same calls.

Owns the writers (who makes enqueue safe to resend), the registration of task types and the group
commit of concurrent `aenqueue` calls. Knows no handler's code and no worker.
"""
