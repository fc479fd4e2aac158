"""The doctor: is the set-up fit to be trusted with tasks? Each check says what it saw and what mends it.

Owns the checks of the server, of the user's rights and of what lives on the queue. Writes nothing: a user
who may only read can ask, and what he may not see is said to be unknown.
"""
