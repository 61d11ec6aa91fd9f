"""What the API says to the refusals of `projects`."""

from rest_framework import status
from rest_framework.serializers import DateTimeField

from projects.api.base.errors import ApiError, as_api_error
from projects.api.base.fields import dollars
from projects.api.base.idempotency import InFlight, InvalidKey, KeyReused
from projects.fetch import FetchError, FetchFailed
from projects.images import ImageRefused
from projects.money.budgets import BudgetArchived, BudgetExists
from projects.money.spend import NoBudget, OverBudget, ProjectArchived
from projects.people.members import MembershipRefused

# After so many it is worth asking again; a dead process's claim ends by itself a little later.
SECONDS_IN_FLIGHT = 2


@as_api_error.register
def _(error: NoBudget) -> Exception:
    return ApiError(status.HTTP_402_PAYMENT_REQUIRED, "no_budget", str(error))


@as_api_error.register
def _(error: BudgetExists) -> Exception:
    return ApiError(status.HTTP_409_CONFLICT, "conflict", " ".join(error.messages))


@as_api_error.register
def _(error: BudgetArchived) -> Exception:
    return ApiError(status.HTTP_409_CONFLICT, "archived", " ".join(error.messages))


@as_api_error.register
def _(error: ProjectArchived) -> Exception:
    return ApiError(status.HTTP_409_CONFLICT, "archived", str(error))


@as_api_error.register
def _(error: OverBudget) -> Exception:
    return ApiError(
        status.HTTP_402_PAYMENT_REQUIRED,
        "over_budget",
        str(error),
        needed=dollars(error.needed),
        free=dollars(error.free),
        budget=str(error.budget.pk),
        resets_at=error.resets_at and DateTimeField().to_representation(error.resets_at),
    )


@as_api_error.register
def _(error: ImageRefused) -> Exception:
    statuses = {
        "upload_too_large": status.HTTP_413_REQUEST_ENTITY_TOO_LARGE,
        "deleted": status.HTTP_410_GONE,
        "archived": status.HTTP_409_CONFLICT,
    }
    # Of these two it is not the file that is wrong.
    attr = None if error.code in ("archived", "deleted") else "file"
    return ApiError(statuses.get(error.code, status.HTTP_400_BAD_REQUEST), error.code, error.message, attr=attr)


@as_api_error.register
def _(error: FetchError) -> Exception:
    """An address that is never fetched is a bad request; one that could not be fetched may work later."""
    tried = isinstance(error, FetchFailed)
    code = status.HTTP_422_UNPROCESSABLE_ENTITY if tried else status.HTTP_400_BAD_REQUEST
    return ApiError(code, error.code, error.message, attr="url")


@as_api_error.register
def _(error: MembershipRefused) -> Exception:
    return ApiError(status.HTTP_409_CONFLICT, error.code, error.message)


@as_api_error.register
def _(error: InvalidKey) -> Exception:
    return ApiError(status.HTTP_400_BAD_REQUEST, "invalid_idempotency_key", str(error))


@as_api_error.register
def _(error: InFlight) -> Exception:
    refusal = ApiError(status.HTTP_409_CONFLICT, "idempotency_key_in_flight", str(error))
    refusal.wait = SECONDS_IN_FLIGHT
    return refusal


@as_api_error.register
def _(error: KeyReused) -> Exception:
    return ApiError(status.HTTP_422_UNPROCESSABLE_ENTITY, "idempotency_key_reused", str(error))
