"""Build one Call per script from its arguments, and parse the script's reply.

Owns the translation between values and what goes over the wire. Building a Call does no I/O; only `transport`
runs one. Reads no clock, draws no random number, calls no handler.
"""
