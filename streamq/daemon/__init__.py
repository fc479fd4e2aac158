"""The daemon: promoter, claimer and janitor for every app of a server. Needs no user code.

`service` decides which chores there are, `loop` runs one at its interval, and each chore is a file of
its own. Any number of daemons may run: every step is one script that is harmless twice.
"""
