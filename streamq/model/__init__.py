"""Define streamq's basic values: frozen, and passed through every layer.

Values that exist once per task are named tuples, which are constructed in half the time.

Owns the task's identity, its states and the ways a delivery can end. Does no I/O, reads no clock and knows
neither Redis nor a handler. A producer loads only those that it uses.
"""
