"""The Django app of the outbox.

Owns its label, which migrations name.
"""

from __future__ import annotations

from django.apps import AppConfig


class OutboxConfig(AppConfig):
    """Adds the table `streamq_outbox`."""

    name = "streamq.django.outbox"
    label = "streamq_outbox"
    verbose_name = "streamq outbox"
