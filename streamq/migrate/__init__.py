"""What a code base uses of another task queue, and what each use becomes here: `streamq migrate scan`.

Owns the tables of seven queues (one module each) and the reading of Python sources. Must not import or run
what it reads, write to it, or connect to anything.
"""
