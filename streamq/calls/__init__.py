"""One builder for each script: arguments in, a Call out; and how to read the script's reply.

Owns the translation between values and what goes over the wire. Building a Call does no I/O; only
`transport` runs one. No clock, no random number, no handler.
"""
