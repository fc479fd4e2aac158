"""The only package that imports redis: runs Calls, reads with blocking, listens to channels.

Owns URL forms, which of several servers is asked, connections, reconnecting and resending, and the
translation of the client library's errors into ours. Knows no task and no script by name.
"""
