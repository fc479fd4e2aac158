"""The call sites of other queues over streamq, so that a code base can move type by type.

Scaffolding: a program drops each module when its last call site has been rewritten. Must not be
imported by anything of streamq.
"""
