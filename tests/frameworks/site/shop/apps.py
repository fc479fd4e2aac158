from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "tests.frameworks.site.shop"
    label = "shop"
