from django.db import models

from generations.models.generation import Generation


class Look(models.Model):
    """When the provider's list or its bill was last read to find what became of a request, and why the last try failed, if it did."""

    class Source(models.TextChoices):
        LIST = "list", "The provider's list"
        BILL = "bill", "The provider's bill"

    generation = models.ForeignKey(Generation, on_delete=models.CASCADE, related_name="looks")
    source = models.CharField(max_length=10, choices=Source)
    tried_at = models.DateTimeField()
    read_at = models.DateTimeField(null=True, help_text="when it was last read to its end")
    error = models.CharField(max_length=300, blank=True, help_text="of the last try; empty: it was read")

    class Meta:
        ordering = ["source"]
        constraints = [models.UniqueConstraint(fields=["generation", "source"], name="look_once_per_source")]

    def __str__(self) -> str:
        return f"{self.get_source_display()}: {self.error or 'read'}"


class ProviderCall(models.Model):
    """How the studio's calls to one route of the provider go, whichever process made them."""

    route = models.CharField(primary_key=True, max_length=60)
    good_at = models.DateTimeField(null=True, help_text="the last good answer, to some seconds")
    failing_since = models.DateTimeField(null=True, help_text="the first failure since the last good answer")
    failed_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["route"]

    def __str__(self) -> str:
        return self.route
