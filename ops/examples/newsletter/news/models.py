import secrets

from django.db import models


class Reader(models.Model):
    email = models.EmailField(unique=True)
    token = models.CharField(max_length=40, unique=True, default=secrets.token_urlsafe)
    confirmed = models.BooleanField(default=False)

    def __str__(self):
        return self.email


class Issue(models.Model):
    subject = models.CharField(max_length=200)
    body = models.TextField()

    def __str__(self):
        return self.subject


class Delivery(models.Model):
    """An issue that a reader has got: a row for each mail, written by the task that sends it."""

    issue = models.ForeignKey(Issue, on_delete=models.CASCADE)
    reader = models.ForeignKey(Reader, on_delete=models.CASCADE)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["issue", "reader"], name="one_mail_each")]
