"""What the API says to the refusals of `generations`."""

from typing import Any

from django.urls import reverse
from rest_framework import exceptions, status

from generations.catalog.endpoint import InvalidInputs
from generations.models import Generation
from generations.services.refusals import NeedsConfirmation, PriceUnknown, Refused
from generations.services.trash import Deleted
from projects.api.base.errors import ApiError, as_api_error


@as_api_error.register
def _(error: InvalidInputs) -> Exception:
    errors = error.errors.items()
    return exceptions.ValidationError(
        {name: [exceptions.ErrorDetail(each, each.code) for each in sentences] for name, sentences in errors}
    )


@as_api_error.register
def _(error: Refused) -> Exception:
    return ApiError(status.HTTP_409_CONFLICT, error.code, str(error))


@as_api_error.register
def _(error: Deleted) -> Exception:
    return ApiError(status.HTTP_410_GONE, error.code, str(error))


@as_api_error.register
def _(error: PriceUnknown) -> Exception:
    return ApiError(status.HTTP_503_SERVICE_UNAVAILABLE, error.code, str(error))


@as_api_error.register
def _(error: NeedsConfirmation) -> Exception:
    existing = [link(generation) for generation in error.existing]
    return ApiError(status.HTTP_409_CONFLICT, error.code, str(error), existing=existing)


def link(generation: Generation) -> dict[str, Any]:
    """Where a generation that exists is found."""
    return {
        "id": str(generation.pk),
        "status": generation.status,
        "url": reverse("generation-detail", args=[generation.pk]),
    }
