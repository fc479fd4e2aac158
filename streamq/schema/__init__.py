"""The JSON Schemas of an app's handlers, and what a change of them breaks.

Owns both: `describe` makes the schemas, `kinds` those of single types, `compare` finds what no longer fits.
Must not connect to a server.
"""
