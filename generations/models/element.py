import uuid

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone
from simple_history.models import HistoricalRecords

from projects.models import Project, Versioned


class Element(Versioned):
    """A character, object or style that Kling keeps consistent; `element_id` is the provider's, and is text."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="elements")
    name = models.CharField(max_length=20, help_text="Name it like this in the prompt; at most 20 characters.")
    description = models.CharField(max_length=100, blank=True)
    element_id = models.CharField(
        max_length=64,
        validators=[RegexValidator(r"^[0-9]+$", "An element id is digits only, such as 306696265837507.")],
        help_text="Kling's id of the element, such as 306696265837507.",
    )
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    history = HistoricalRecords()

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "element_id"],
                name="element_once_per_project",
                violation_error_message="This project has this element already.",
            )
        ]

    def __str__(self) -> str:
        return self.name
