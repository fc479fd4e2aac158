"""Compare streamq with the bare loop on a server of the user's choice: `streamq bench`.

Owns the measuring. Uses only the public API and the commands that users run, and removes everything it put on
the server.
"""
