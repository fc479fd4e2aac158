from django.contrib import admin

from news.models import Delivery, Issue, Reader
from news.tasks import send_issue

admin.site.register(Reader)


@admin.register(Issue)
class IssueAdmin(admin.ModelAdmin):
    list_display = ("subject", "delivered")
    actions = ("send",)

    def delivered(self, issue):
        return Delivery.objects.filter(issue=issue).count()

    @admin.action(description="Send to all readers")
    def send(self, request, issues):
        for issue in issues:
            send_issue.using(idempotency_key=f"issue:{issue.pk}").enqueue_on_commit(issue.pk)
        self.message_user(request, f"{len(issues)} on their way")
