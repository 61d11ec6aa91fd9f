"""A submit in the wrong order, to show that the crash matrix finds it: it commits that it asks only after it has asked."""

import os
from datetime import timedelta

from django.utils import timezone

from generations import lifecycle, provider
from generations.lifecycle.lane import Lease
from generations.lifecycle.timing import call_lease
from generations.models import Generation, Status


def submit(lease: Lease) -> None:
    """POSTs first, and commits `submitting` when the answer is there."""
    generation = Generation.objects.select_related("image").get(pk=lease.pk)
    with generation.image.file.open("rb") as file:
        ticket = provider.client().upload(
            file, filename="picture.jpg", size=generation.image.bytes, content_type=generation.image.content_type
        )
    body = lifecycle.request_body(generation, {"image": ticket.download_url})
    prediction = provider.client().submit(generation.endpoint, body)
    Generation.objects.move(
        lease.pk,
        Status.QUEUED,
        Status.SUBMITTING,
        token=lease.token,
        reason="Handed to the provider.",
        request_body=body,
        submitted_at=timezone.now(),
        lease_token=lease.token,
        lease_until=timezone.now() + timedelta(seconds=call_lease()),
    )
    lifecycle.adopt(lease.pk, prediction.id, reason="Accepted by the provider.")


def submit_if_told() -> None:
    """Puts it in the place of the lifecycle's own when `SUBMIT_IN_WRONG_ORDER` is set."""
    if os.environ.get("SUBMIT_IN_WRONG_ORDER"):
        lifecycle.submit = submit
