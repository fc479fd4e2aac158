"""What a process tells of itself: logs, metrics, traces, health. Decides nothing about a task.

Imports nothing heavy by itself: structlog, prometheus_client and opentelemetry are loaded where they are
first needed, and where nobody asks for metrics or traces they are not.
"""
