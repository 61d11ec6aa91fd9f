"""The one route for the provider: it tells of a generation, and is answered at once. Proved by its signature, not by a login."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, status
from rest_framework.parsers import FileUploadParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from generations import counters
from generations.services import webhooks
from generations.wavespeed import errors
from projects.api.base.errors import ApiError, as_api_error, too_large
from projects.api.base.views import Api


@as_api_error.register
def _(error: errors.BadSignature) -> Exception:
    # One sentence for all that is wrong with it: a forger learns nothing.
    return ApiError(status.HTTP_403_FORBIDDEN, "bad_signature", "This is not signed by the provider, or too old.")


@as_api_error.register
def _(error: errors.Unreadable) -> Exception:
    return exceptions.ParseError("This webhook is not a prediction.")


@as_api_error.register
def _(error: webhooks.NoSuchGeneration) -> Exception:
    return exceptions.NotFound("There is nothing here.")


@as_api_error.register
def _(error: webhooks.NoSecret) -> Exception:
    detail = "Webhooks can't be proved now: the studio does not know the provider's secret (yet). Results are asked for all the same."
    return ApiError(status.HTTP_503_SERVICE_UNAVAILABLE, "no_secret", detail)


# By the status of the answer; for /metrics.
OUTCOMES = {204: "taken", 403: "bad_signature", 404: "unknown", 503: "no_secret"}


class WaveSpeedWebhook(Api):
    """Without session, CSRF or throttle: whoever has the secret is the provider, and a lost webhook costs seconds."""

    authentication_classes: Any = []
    permission_classes = [AllowAny]
    throttle_classes: Any = []
    # Takes any content type; the raw bytes are read, as they are what was signed.
    parser_classes = [FileUploadParser]

    # It is the provider's: no client of the API has a use for it.
    @extend_schema(exclude=True)
    def create(self, request: Request, generation: UUID) -> Response:
        """What it says, signed as https://wavespeed.ai/docs/verify-webhooks tells, is kept, and is a reason to ask for the result; it
        is not believed by itself."""
        raw = request._request
        if int(raw.META.get("CONTENT_LENGTH") or 0) > webhooks.MAX_BODY:
            raise too_large(webhooks.MAX_BODY)
        body = raw.body
        if len(body) > webhooks.MAX_BODY:
            raise too_large(webhooks.MAX_BODY)
        headers = {name.lower(): value for name, value in raw.headers.items()}
        webhooks.receive(generation, headers, body, path=raw.path)
        return Response(status=status.HTTP_204_NO_CONTENT)

    def query_parameters(self) -> dict[str, bool]:
        """The provider's own affair."""
        return dict.fromkeys(self.request.query_params, True)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        counters.webhook(OUTCOMES.get(response.status_code, "unreadable"))
        return super().finalize_response(request, response, *args, **kwargs)
