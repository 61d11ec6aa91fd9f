from django.apps import AppConfig

from projects import checks as checks  # registers the system checks


class ProjectsConfig(AppConfig):
    name = "projects"
    default_auto_field = "django.db.models.BigAutoField"
