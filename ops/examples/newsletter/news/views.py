from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from news.models import Reader
from news.tasks import ask_to_confirm


@csrf_exempt  # anybody may subscribe
@require_POST
def subscribe(request):
    email = request.POST["email"]
    with transaction.atomic():
        reader, new = Reader.objects.get_or_create(email=email)
        if new:
            ask_to_confirm.enqueue_on_commit(reader.pk)
    return HttpResponse("look into your mails\n", status=202)


def confirm(_request, token):
    reader = get_object_or_404(Reader, token=token)
    reader.confirmed = True
    reader.save()
    return HttpResponse(f"welcome, {reader.email}\n")
