from django.apps import AppConfig

from kling_studio import checks as checks  # registers the system checks


class KlingStudioConfig(AppConfig):
    name = "kling_studio"
    verbose_name = "Studio"
