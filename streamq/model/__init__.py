"""The nouns of streamq: frozen values that every layer passes on.

Those of which there is one a task are named tuples, which are made in half the time.

Owns the task's identity, its states and the ways a delivery can end. Does no I/O, reads no clock and
knows neither Redis nor a handler. A producer loads no more of them than it uses.
"""
