"""The only package that imports redis: runs Calls, reads with blocking, subscribes to channels.

Owns URL forms, the choice between several servers, connections, reconnecting and resending, and the
translation of the client library's errors into streamq's. Must not know a task, nor a script by name.
"""
