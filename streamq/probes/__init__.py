"""What a process tells the host it runs on: health and metrics over HTTP, and notices to systemd.

Owns the small HTTP server, its endpoints and the verdicts "alive" and "ready". Decides nothing about a task.
"""
