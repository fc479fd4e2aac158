"""The outbox of a project, for a relay without manage.py: `streamq outbox relay streamq.django.relay:outbox`.

Owns nothing else. Importing it sets Django up.
"""

from __future__ import annotations

from streamq.django import worker
from streamq.django.outbox.store import DjangoOutbox

outbox: DjangoOutbox = DjangoOutbox((worker.aliases() or ["default"])[0])
