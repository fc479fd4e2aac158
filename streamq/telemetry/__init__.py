"""Observability of a process: logs, metrics and traces. Makes no decision about a task.

Imports nothing heavy at import time: structlog, prometheus_client and opentelemetry are loaded when first
needed, and never if metrics or traces are not requested.
"""
