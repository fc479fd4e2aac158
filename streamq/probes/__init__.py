"""What a process exposes to its host: health and metrics over HTTP, and notifications to systemd.

Owns the HTTP server, its endpoints and the verdicts "alive" and "ready". Makes no decision about a task.
"""
