"""The chaos proof: real processes, faults at random by seed, and a checker that believes nobody.

`python -m tests.chaos` runs it. `plan` draws the faults, `stage` owns the processes, `faults` injects,
`tasks` and `producer` write down what they did in `history`, `census` counts what the server holds at the
end, and `checker` holds the two against each other.
"""
