"""The classical scenario, for real: a producer, two workers, a daemon, and a kill -9 in the middle.

`tasks` are the handlers, `ledger` what they write down outside Redis, `producer` a program of its own,
`scenario` runs it all on the embedded server and draws up the account.
"""
