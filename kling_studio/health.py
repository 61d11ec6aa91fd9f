"""`/livez` and `/readyz`."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from generations.watching.health import State, results


@require_safe
@never_cache
def livez(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": State.OK})


@require_safe
@never_cache
def readyz(request: HttpRequest) -> HttpResponse:
    found = results()
    states = {result.state for result in found.values()}
    worst = next(state for state in (State.FAILED, State.DEGRADED, State.OK) if state in states)
    checks = {name: {"status": result.state, "message": result.message} for name, result in found.items()}
    return JsonResponse({"status": worst, "checks": checks}, status=503 if worst == State.FAILED else 200)
