"""A Django project for the tests. Its databases and its server come from the environment."""

import os

from tenacity import wait_none

AT_ONCE = wait_none()

SECRET_KEY = "of the tests"
DEBUG = os.environ.get("SITE_DEBUG") == "1"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "UTC"
ROOT_URLCONF = "tests.frameworks.site.urls"
INSTALLED_APPS = [
    "streamq.django",
    "streamq.django.outbox",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "tests.frameworks.site.shop",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": os.environ.get("SITE_SQLITE", ":memory:"),
    "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
}
POSTGRES = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "site",
    "USER": "site",
    "HOST": os.environ.get("SITE_POSTGRES", ""),
    "CONN_MAX_AGE": 60,
}
DATABASES = {"default": POSTGRES if os.environ.get("SITE_POSTGRES") else SQLITE}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
TASKS = {
    "default": {
        "BACKEND": "streamq.django.StreamQBackend",
        "QUEUES": ["default", "mail"],
        "OPTIONS": {
            "APP": "site",
            "URL": os.environ.get("SITE_SERVER", "unix:///nowhere.sock"),
            "PATIENCE": 2,
            "OUTBOX": os.environ.get("SITE_OUTBOX") == "1",
            "IMPORTS": [one for one in os.environ.get("SITE_IMPORTS", "").split(",") if one],
            "DEFAULTS": {"max_attempts": 2, "backoff": AT_ONCE},
        },
    },
}
