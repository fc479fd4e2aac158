"""The doctor: check whether the set-up is fit to be trusted with tasks. Each check reports what it found, and
the fix.

Owns the checks of the server, of the user's rights and of what lives on the queue. Writes nothing: a
read-only user can run it, and what that user may not see is reported as unknown.
"""
