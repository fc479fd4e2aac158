from django.contrib import admin
from django.urls import path
from news import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("subscribe", views.subscribe),
    path("confirm/<str:token>", views.confirm, name="confirm"),
]
