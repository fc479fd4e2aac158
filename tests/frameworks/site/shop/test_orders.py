"""Tests of the site, as its own developers would write them: run by Django's test runner."""

from django.db import transaction
from django.test import TestCase, TransactionTestCase
from django.utils import timezone

from streamq.django.testing import TaskQueueMixin

from . import tasks
from .models import Order


class TestOrders(TaskQueueMixin, TestCase):
    def test_a_def_task_sees_the_transaction_of_the_test(self):
        order = Order.objects.create(name="A7")
        result = tasks.pay_sync.enqueue(order.pk)
        [task] = self.queue.run()
        self.assertEqual(task.state, "completed")
        order.refresh_from_db()
        self.assertEqual(order.paid, 2)
        result.refresh()
        self.assertEqual(result.status, "SUCCESSFUL")

    def test_an_async_task_does_too(self):
        order = Order.objects.create(name="A7")
        tasks.pay.enqueue(order.pk)
        self.queue.run()
        order.refresh_from_db()
        self.assertEqual(order.paid, 1)

    async def test_an_async_test_runs_async_tasks(self):
        order = await Order.objects.acreate(name="A7")
        await tasks.pay.aenqueue(order.pk)
        [task] = await self.queue.arun()
        self.assertEqual(task.state, "completed")
        await order.arefresh_from_db()
        self.assertEqual(order.paid, 1)

    def test_what_waits_for_a_commit_is_sent_when_callbacks_are_captured(self):
        with self.captureOnCommitCallbacks(execute=True):
            with transaction.atomic():
                tasks.add.enqueue_on_commit(1)
            self.assertEqual(self.queue.run(), [])
        [task] = self.queue.run()
        self.assertEqual(task.result, 3)

    def test_time_passes(self):
        tasks.add.using(run_after=timezone.now() + timezone.timedelta(hours=1)).enqueue(1)
        self.assertEqual(self.queue.run(), [])
        self.assertEqual([task.result for task in self.queue.advance("2h")], [3])

    def test_retries_and_failures(self):
        tasks.flaky.enqueue(3)
        [task] = self.queue.run()
        self.assertEqual((task.result, task.attempts), (3, 3))
        tasks.fails.enqueue("plain")
        with self.assertRaisesMessage(ValueError, "plain"):
            self.queue.run()

    def test_queries_can_be_counted(self):
        order = Order.objects.create(name="A7")
        tasks.pay_sync.enqueue(order.pk)
        with self.assertNumQueries(1):
            self.queue.run()


class TestWithCommits(TaskQueueMixin, TransactionTestCase):
    def test_a_task_is_enqueued_by_the_commit(self):
        with transaction.atomic():
            order = Order.objects.create(name="A7")
            tasks.pay_sync.enqueue_on_commit(order.pk)
        self.queue.run()
        order.refresh_from_db()
        self.assertEqual(order.paid, 2)

    def test_each_test_begins_with_an_empty_queue(self):
        self.assertEqual(self.queue.run(), [])
