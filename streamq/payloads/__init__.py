"""Payloads, results and the texts of failures: from JSON to their stored form, and back.

Owns both directions: all code that stores, reads, shows or edits one uses this package. `pipeline` seals and
opens, `reading` is for showing and editing. Must not write or read JSON values: `convert` does.
"""
