from importlib import import_module

from django.apps import AppConfig
from django.conf import settings

from projects import limited


class KlingStudioConfig(AppConfig):
    name = "kling_studio"
    verbose_name = "Studio"

    def ready(self) -> None:
        """Sets the limits of files that strangers made, and registers the system checks, which need the models."""
        import_module("kling_studio.checks")
        limited.configure(
            limited.Limits(
                home=settings.STUDIO_HOME / "reading",
                seconds=settings.READING_SECONDS,
                megabytes=settings.READING_MEGABYTES,
                at_once=settings.READING_AT_ONCE,
            )
        )
