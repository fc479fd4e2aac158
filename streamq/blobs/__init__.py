"""Stores for large arguments and results, outside of the queue: files, Redis, S3.

Owns the stores and how one is named by a URL. What goes into them, and how long it lives, is not theirs:
`payloads.blobs` and the scripts say that. Must not know a task.
"""
