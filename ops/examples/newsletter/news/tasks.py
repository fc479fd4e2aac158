from django.core.mail import send_mail
from django.db import transaction
from django.urls import reverse

from news.models import Delivery, Issue, Reader
from streamq.django import task

PAGE = 500
SENDER = "news@example.com"


@task(queue_name="mail")
def ask_to_confirm(reader_id):
    reader = Reader.objects.get(pk=reader_id)
    link = "http://localhost:8000" + reverse("confirm", args=[reader.token])
    send_mail("Please confirm", f"Follow this link: {link}", SENDER, [reader.email])


@task
def send_issue(issue_id, after=0):
    """Enqueue the mails of one page of readers, and the next page."""
    readers = Reader.objects.filter(confirmed=True, pk__gt=after).order_by("pk")[:PAGE]
    for reader in readers:
        # The key makes an attempt that is repeated harmless: a reader has one task for an issue.
        deliver.using(idempotency_key=f"issue:{issue_id}:{reader.pk}").enqueue(issue_id, reader.pk)
    if len(readers) == PAGE:
        last = readers[PAGE - 1].pk
        send_issue.using(idempotency_key=f"issue:{issue_id}:page:{last}").enqueue(issue_id, last)
    return len(readers)


@task(queue_name="mail", start_rate="50/s")
def deliver(issue_id, reader_id):
    issue, reader = Issue.objects.get(pk=issue_id), Reader.objects.get(pk=reader_id)
    with transaction.atomic():  # a mail that cannot be sent takes its row back
        _, first = Delivery.objects.get_or_create(issue=issue, reader=reader)
        if first:
            send_mail(issue.subject, issue.body, SENDER, [reader.email])
    return first
