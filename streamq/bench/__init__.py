"""streamq beside the bare loop on a server of the user's choice: `streamq bench`.

Owns the measuring. Uses the public API and the commands that users run, never a way of its own, and
cleans up what it put on the server.
"""
