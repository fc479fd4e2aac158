from django.contrib.auth.models import User
from django.core import mail
from django.test import TestCase

from news.models import Delivery, Issue, Reader
from streamq.django.testing import TaskQueueMixin


class TestNewsletter(TaskQueueMixin, TestCase):
    def subscribe(self, email):
        with self.captureOnCommitCallbacks(execute=True):  # a TestCase never commits
            self.client.post("/subscribe", {"email": email})
        self.queue.run()

    def send(self, issue):
        """Choose the action in the admin."""
        self.client.force_login(User.objects.create_superuser("editor"))
        with self.captureOnCommitCallbacks(execute=True):
            form = {"action": "send", "_selected_action": issue.pk}
            self.assertRedirects(self.client.post("/admin/news/issue/", form), "/admin/news/issue/")

    def test_a_reader_confirms(self):
        self.subscribe("ada@example.com")
        link = mail.outbox[0].body.partition("localhost:8000")[2]
        self.assertContains(self.client.get(link), "welcome, ada@example.com")
        self.assertTrue(Reader.objects.get().confirmed)

    def test_who_subscribes_twice_gets_one_mail(self):
        self.subscribe("ada@example.com")
        self.subscribe("ada@example.com")
        self.assertEqual(len(mail.outbox), 1)

    def test_an_issue_reaches_each_reader_once_though_a_worker_dies(self):
        for name in ("ada", "bob", "eve"):
            Reader.objects.create(email=f"{name}@example.com", confirmed=name != "eve", token=name)
        issue = Issue.objects.create(subject="November", body="…")
        self.send(issue)
        self.queue.lose("after_handler")  # the worker dies before it can report
        self.queue.run()
        self.assertEqual(sorted(one.to[0] for one in mail.outbox), ["ada@example.com", "bob@example.com"])
        self.assertEqual(Delivery.objects.count(), 2)
