"""Payloads, results and the texts of failures between their JSON and what is stored of them.

Owns the way there and back: whoever stores, reads, shows or edits one goes through here. `pipeline` seals and
opens, `reading` is for those who show and edit. JSON itself is written and read by `convert`.
"""
