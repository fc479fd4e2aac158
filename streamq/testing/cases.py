"""The test kit for unittest, and for Django's test cases.

Owns a queue for each test. The server is shared by the tests of a process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import TestCase

from streamq.embedded import shared
from streamq.testing.queue import Queue

if TYPE_CHECKING:
    from streamq.app.app import StreamQ


class QueueTestCase(TestCase):
    """Gives each test a `queue` for the class's `streamq_app`. Put it before other bases."""

    streamq_app: StreamQ
    queue: Queue

    def setUp(self) -> None:
        super().setUp()
        self.queue = Queue(self.streamq_app, shared())
        self.enterContext(self.queue)
