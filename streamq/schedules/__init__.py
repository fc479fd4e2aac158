"""Recurring tasks as values: what a schedule is, how it stands, and what is to be done at its next time.

`definition` is what was asked for, `state` how it stands, `arithmetic` the times, `plan` the next step. Pure:
no I/O, no clock.
"""
