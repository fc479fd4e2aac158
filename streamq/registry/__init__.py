"""The task types of an app: handlers, their policies, and how a call is bound to a signature.

Does no I/O. Knows neither Redis nor how a handler is executed.
"""
