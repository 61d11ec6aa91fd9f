from django.apps import AppConfig
from django.utils.module_loading import import_module


class KlingStudioConfig(AppConfig):
    name = "kling_studio"
    verbose_name = "Studio"

    def ready(self) -> None:
        """Registers the system checks, which need the models."""
        import_module("kling_studio.checks")
