from django.apps import AppConfig


class KlingStudioConfig(AppConfig):
    name = "kling_studio"
    verbose_name = "Studio"
