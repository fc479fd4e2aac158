"""The daemon: promoter, claimer, janitor and other chores for every app of a server. Needs no user code.

`chores` lists the chores, `loop` runs one at its interval, and each chore has its own module. Any number of
daemons may run: each step is one script that is safe to run twice.
"""
