"""The table of the outbox, with the columns of `streamq.outbox.row.Row`.

Owns the model. It has no class for the admin: rows are the relay's.
"""

from __future__ import annotations

from django.db import models


class OutboxRow(models.Model):
    """A call that waits to be sent."""

    id = models.UUIDField(primary_key=True)
    app = models.CharField(max_length=200)
    type = models.CharField(max_length=100)
    payload = models.BinaryField()
    options = models.TextField()
    created_ms = models.BigIntegerField()
    not_before_ms = models.BigIntegerField(null=True, db_index=True)
    tries = models.IntegerField()
    error = models.TextField(blank=True)

    class Meta:
        """Names of the table."""

        db_table = "streamq_outbox"
        app_label = "streamq_outbox"
