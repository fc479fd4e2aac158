"""Run the end-to-end demo with real processes: a producer, two workers, a daemon, and a kill -9 in the
middle.

`tasks` are the handlers, `ledger` records outside Redis what they did, `producer` is a program of its own,
`scenario` runs it all on the embedded server and computes the account.
"""
