from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter
from unfold.decorators import display

from generations import catalog
from generations.admin.decisions import REFUSALS, Candidate
from generations.admin.display import ago
from generations.models import Generation, Status, UnassignedPrediction
from generations.services import decisions
from projects.admin.access import ReadOnlyAdmin, access, person
from projects.admin.display import NOTHING, thumbnail

STATES = {"Stored": "success", "On its way": "info", "Not stored": "danger", "Belongs to a generation": "default"}


def title_of(endpoint: str) -> str:
    known = catalog.ENDPOINTS.get(endpoint)
    return known.title if known else endpoint or "Unknown model"


def state(prediction: UnassignedPrediction) -> str:
    if prediction.assigned_to_id:
        return "Belongs to a generation"
    if prediction.stored_at:
        return "Stored"
    return "Not stored" if prediction.error_message and prediction.next_action_at is None else "On its way"


class AssignedFilter(DropdownFilter):
    """What belongs to a generation by now is out of sight until somebody asks for it."""

    title = "assigned"
    parameter_name = "assigned"
    all_option = ("", "Hidden")

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("only", "Only assigned"), ("all", "Shown too")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "all":
            return queryset
        return queryset.filter(assigned_to__isnull=self.value() != "only")


@admin.register(UnassignedPrediction)
class UnassignedPredictionAdmin(ReadOnlyAdmin):
    """What the provider made and nobody here is known to have asked for. It belongs to no project: studio owners alone see it."""

    list_display = ["poster_shown", "what", "asked_for", "made", "found", "state_label"]
    list_display_links = ["poster_shown", "what"]
    list_filter = [AssignedFilter]
    search_fields = ["prediction_id", "endpoint"]

    def _may(self, request: HttpRequest, action: str, obj: Any) -> bool:
        return access(request).is_studio_owner

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = UnassignedPrediction.objects.select_related("assigned_to").prefetch_related("videos")
        return rows if access(request).is_studio_owner else rows.none()

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        context = {"title": "Unassigned videos", **(extra_context or {})}
        response: HttpResponse = super().changelist_view(request, context)
        return response

    @display(description="Video")
    def poster_shown(self, prediction: UnassignedPrediction) -> SafeString:
        video = next(iter(prediction.videos.all()), None)
        return thumbnail(video.poster if video else None, prediction.prediction_id)

    @display(description="Model", ordering="endpoint")
    def what(self, prediction: UnassignedPrediction) -> str:
        return title_of(prediction.endpoint)

    @display(description="Asked for")
    def asked_for(self, prediction: UnassignedPrediction) -> str:
        return Candidate(prediction).prompt[:80] or NOTHING

    @display(description="Made at the provider", ordering="made_at")
    def made(self, prediction: UnassignedPrediction) -> SafeString | str:
        return ago(prediction.made_at) if prediction.made_at else NOTHING

    @display(description="Found in", ordering="found_by")
    def found(self, prediction: UnassignedPrediction) -> str:
        return str(prediction.get_found_by_display())

    @display(description="State", label=STATES)
    def state_label(self, prediction: UnassignedPrediction) -> str:
        return state(prediction)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        prediction = self.get_or_404(request, object_id)
        if request.method == "POST":
            self._assign(request, prediction)
            return HttpResponseRedirect(request.path)
        label = state(prediction)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{title_of(prediction.endpoint)}, {prediction.prediction_id[:8]}",
            "original": prediction,
            "prediction": prediction,
            "candidate": Candidate(prediction),
            "state": label,
            "colour": STATES[label],
            "waiting": self._waiting(prediction),
        }
        return TemplateResponse(request, "admin/generations/unassigned/page.html", context)

    def _waiting(self, prediction: UnassignedPrediction) -> list[tuple[Generation, bool]]:
        """What it can be assigned to: unconfirmed, or settled as not made. Those first that it may be by all that is known."""
        if prediction.assigned_to_id:
            return []
        open_ones = Q(status=Status.UNCONFIRMED) | Q(status=Status.FAILED, error_code="not_made", prediction_id=None)
        rows = Generation.objects.filter(open_ones)
        if prediction.endpoint:
            rows = rows.filter(endpoint=prediction.endpoint)
        may_be = set(prediction.candidate_for.values_list("pk", flat=True))
        listed = [(row, row.pk in may_be) for row in rows.select_related("project", "requested_by")[:50]]
        return sorted(listed, key=lambda each: not each[1])

    def _assign(self, request: HttpRequest, prediction: UnassignedPrediction) -> None:
        if not access(request).is_studio_owner:
            raise PermissionDenied
        chosen = request.POST.get("generation", "")
        generation = next((row for row, _ in self._waiting(prediction) if str(row.pk) == chosen), None)
        if generation is None:
            messages.error(request, "Choose which generation it belongs to.")
            return
        try:
            decisions.assign(generation, prediction, by=person(request), reason=request.POST.get("reason", ""))
        except REFUSALS as refusal:
            messages.error(request, str(refusal))
        else:
            messages.success(request, f"It belongs to “{generation}” now, and is charged to {generation.project}.")


def page_of(prediction: UnassignedPrediction) -> str:
    return reverse("admin:generations_unassignedprediction_change", args=[prediction.pk])
