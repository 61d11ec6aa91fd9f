from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpResponseRedirect
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from generations import catalog
from generations.api import errors  # noqa: F401  # registers them
from generations.api.filters import ApprovalFilter, ElementFilter, GenerationFilter, VideoFilter
from generations.api.serializers import (
    PRIORITY_HELP,
    TAGS_HELP,
    UUID_SCHEMA,
    ApprovalSerializer,
    ApprovedSerializer,
    ApproveFields,
    AssignFields,
    CancelFields,
    CandidateSerializer,
    Confirmation,
    ElementFields,
    ElementSerializer,
    EndpointSerializer,
    EventSerializer,
    GenerationChanges,
    GenerationSerializer,
    NewElement,
    NewGeneration,
    NoFields,
    NotMadeFields,
    OptionalReasonFields,
    QueuedGenerationSerializer,
    QuoteSerializer,
    ReasonFields,
    RejectFields,
    TakeFields,
    TakeOutputFields,
    VideoSerializer,
    inputs_schema,
)
from generations.models import Approval, Element, Generation, Priority, Video
from generations.services import (
    approvals,
    decisions,
    drafts,
    elements,
    orders,
    pauses,
    queueing,
    quotes,
    refusals,
    trash,
)
from generations.services.inputs import LONGEST_TAG, MOST_TAGS
from generations.services.prices import Prices
from generations.storage import naming
from projects import permissions
from projects.api.base.idempotency import idempotent
from projects.api.base.preconditions import conditional
from projects.api.base.views import Api
from projects.api.serializers import ProjectSerializer
from projects.api.views import visible_project
from projects.models import Project


def _body(own: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """The OpenAPI schema of a body with fields of ours and an endpoint's parameters."""
    schema = {"type": "object", "properties": {**own, **inputs_schema()}, "additionalProperties": False}
    return {"application/json": schema | ({"required": required} if required else {})}


WHAT = {"project": UUID_SCHEMA, "endpoint": {"type": "string", "enum": list(catalog.ENDPOINTS)}}
SWITCH = {"type": "boolean", "default": False}
TAG = {"type": "string", "minLength": 1, "maxLength": LONGEST_TAG}
TAGS = {
    "tags": {
        "type": "array",
        "items": TAG,
        "maxItems": MOST_TAGS,
        "description": f"{TAGS_HELP[0].upper()}{TAGS_HELP[1:]}.",
    }
}
PRIORITY = {
    "priority": {
        "type": "string",
        "enum": [priority.name.lower() for priority in Priority],
        "description": f"{PRIORITY_HELP[0].upper()}{PRIORITY_HELP[1:]}. Normal unless you say so.",
    }
}
NEW_BODY = _body(
    {
        **WHAT,
        **TAGS,
        **PRIORITY,
        "queue": {**SWITCH, "description": "Reserve its price and let it into the queue."},
        "confirm": {**SWITCH, "description": "Pay although the same video exists or is on its way."},
    },
    ["project", "endpoint"],
)
PATCH_BODY = _body({**TAGS, **PRIORITY}, [])


class EndpointViewSet(Api):
    """The catalogue: what can be generated, with which parameters, at which price."""

    serializer_class = EndpointSerializer
    filter_backends = []
    queryset = None

    @extend_schema(responses=EndpointSerializer(many=True))
    def list(self, request: Request) -> Response:
        return self.listed(list(catalog.ENDPOINTS.values()), EndpointSerializer)


@extend_schema_view(
    list=extend_schema(description="The elements of the projects that you see, without the archived ones."),
    retrieve=extend_schema(description="One element, archived or not."),
)
class ElementViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Api):
    queryset = Element.objects.none()
    serializer_class = ElementSerializer
    filterset_class = ElementFilter
    refuses = {"create": [404]}
    ordering_fields = ["name", "created_at"]

    def get_queryset(self) -> QuerySet[Element]:
        visible = permissions.visible_projects(self.person)
        return Element.objects.filter(project__in=visible).select_related("created_by", "project")

    @extend_schema(request=NewElement, responses={201: ElementSerializer})
    @idempotent
    def create(self, request: Request) -> Response:
        """Notes an element that was made at Kling, so that generations can use it."""
        fields = self.valid(NewElement)
        project = visible_project(self.person, fields.pop("project"))
        permissions.require(self.person, "edit", project)
        if project.archived_at:
            raise refusals.Archived(f"{project} is archived: nothing new can be made in it.")
        element = Element(project=project, created_by=self.person, **fields)
        element.full_clean()
        element.save()
        return self.shown(element, ElementSerializer, status.HTTP_201_CREATED)

    @extend_schema(request=ElementFields, responses=ElementSerializer)
    @conditional
    def partial_update(self, request: Request, pk: UUID) -> Response:
        """Changes what is named and nothing else."""
        element = self.get_object()
        permissions.require(self.person, "edit", element.project)
        elements.edit(element, by=self.person, expected=self.expected, **self.valid(ElementFields, partial=True))
        return self.shown(element, ElementSerializer)

    @extend_schema(responses={204: OpenApiResponse(description="Archived; videos made with it stay.")})
    @conditional
    def destroy(self, request: Request, pk: UUID) -> Response:
        """Archives it: nothing new is made with it."""
        elements.archive(self.get_object(), by=self.person, expected=self.expected)
        return Response(status=status.HTTP_204_NO_CONTENT)


@extend_schema_view(
    list=extend_schema(description="The generations of the projects that you see, the newest first."),
    retrieve=extend_schema(description="One generation: how far it is, what it costs, and its videos."),
)
class GenerationViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Api):
    queryset = Generation.objects.none()
    serializer_class = GenerationSerializer
    filterset_class = GenerationFilter
    paged = ("list", "candidates", "events")
    refuses = {
        "create": [402, 404],
        "quote": [404],
        "candidates": [403],
        "queue": [402],
        "approve": [402],
        "retry": [402],
    }
    # Asked before the body is looked at, so that who may not is told so whatever they send.
    rights = {
        **dict.fromkeys(("partial_update", "cancel", "ignore_result", "want_result"), "edit"),
        **dict.fromkeys(("queue", "retry"), "spend"),
        **dict.fromkeys(("approve", "reject"), "approve"),
        **dict.fromkeys(("candidates", "assign", "not_made", "take_output", "no_video", "take_as_it_is"), "manage"),
    }
    prices: Prices | None = None
    ordering_fields = ["created_at", "queued_at", "completed_at", "status", "duration"]

    def get_queryset(self) -> QuerySet[Generation]:
        return permissions.visible(self._rows(), self.person)

    def get_object(self) -> Generation:
        generation: Generation = super().get_object()
        if right := self.rights.get(self.action):
            permissions.require(self.person, right, generation.project)
        return generation

    def _rows(self) -> QuerySet[Generation]:
        return Generation.objects.select_related("project", "requested_by", "approval").prefetch_related(
            "videos", "refused_outputs", "element_links", "looks"
        )

    def _ask_price_of_new(self, request: Request) -> None:
        asked = self.valid(NewGeneration)
        if asked["queue"]:
            project = visible_project(self.person, asked["project"])
            self.prices = quotes.ask_price(project, endpoint=asked["endpoint"], inputs=asked["inputs"])

    @extend_schema(request=NEW_BODY, responses={201: GenerationSerializer, 202: QueuedGenerationSerializer})
    @queueing.refusals_told()
    @idempotent(before=_ask_price_of_new)
    @transaction.atomic
    def create(self, request: Request) -> Response:
        """A draft (201), or with `queue` a paid order (202): its price is reserved, and it waits for its turn.

        What costs more than the project's `approval_above` is `awaiting_approval` instead, and nothing is reserved yet.
        """
        asked = self.valid(NewGeneration)
        project = visible_project(self.person, asked["project"])
        generation = drafts.create(
            project,
            endpoint=asked["endpoint"],
            inputs=asked["inputs"],
            tags=asked["tags"],
            priority=asked["priority"],
            by=self.person,
        )
        if not asked["queue"]:
            return self._row(generation, status.HTTP_201_CREATED)
        orders.queue(generation, by=self.person, confirm=asked["confirm"], told=self.prices)
        return self._queued(generation)

    @extend_schema(request=PATCH_BODY, responses=GenerationSerializer)
    @conditional
    def partial_update(self, request: Request, pk: UUID) -> Response:
        """Changes the inputs of a draft that are named, null unsets one; `tags` replace all that it has.

        `priority` may be changed until it is submitted, and leaves a request for approval alone.
        """
        generation, changes = self.get_object(), self.valid(GenerationChanges)
        drafts.update(
            generation,
            inputs=changes["inputs"] or None,
            tags=changes.get("tags"),
            priority=changes.get("priority"),
            by=self.person,
            expected=self.expected,
        )
        return self._row(generation)

    @extend_schema(request=NEW_BODY, responses=QuoteSerializer)
    @action(detail=False, methods=["post"])
    def quote(self, request: Request) -> Response:
        """What it would cost, and whether it fits the budgets; nothing is made and nothing is held.

        It takes what `generations/` takes; tags, `priority`, `queue` and `confirm` change no price.
        """
        asked = self.valid(NewGeneration)
        project = visible_project(self.person, asked["project"])
        quote = quotes.quote(project, endpoint=asked["endpoint"], inputs=asked["inputs"], by=self.person)
        return self.shown(quote, QuoteSerializer)

    def _ask_price(self, request: Request, pk: UUID) -> None:
        self.prices = quotes.ask_prices([self.get_object()])

    @extend_schema(request=Confirmation, responses={202: QueuedGenerationSerializer})
    @action(detail=True, methods=["post"])
    @queueing.refusals_told()
    @idempotent(before=_ask_price)
    @conditional
    def queue(self, request: Request, pk: UUID) -> Response:
        """Reserves the price and lets the draft into the queue, or asks for an approval: then it is `awaiting_approval`."""
        generation = self.get_object()
        confirm = self.valid(Confirmation)["confirm"]
        orders.queue(generation, by=self.person, confirm=confirm, told=self.prices, expected=self.expected)
        return self._queued(generation)

    @extend_schema(request=ApproveFields, responses={202: QueuedGenerationSerializer})
    @action(detail=True, methods=["post"])
    @idempotent(atomic=False)
    def approve(self, request: Request, pk: UUID) -> Response:
        """Approves the request that it waits in, with all others in it: see `approvals/{id}/approve/`."""
        generation = self.get_object()
        approvals.approve(approvals.approval_of(generation), by=self.person, **self.valid(ApproveFields))
        return self._queued(generation)

    @extend_schema(request=RejectFields, responses=GenerationSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def reject(self, request: Request, pk: UUID) -> Response:
        """Rejects the request that it waits in, with all others in it: see `approvals/{id}/reject/`."""
        generation = self.get_object()
        approvals.reject(approvals.approval_of(generation), by=self.person, **self.valid(RejectFields))
        return self._row(generation)

    @extend_schema(request=CancelFields, responses=GenerationSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    @conditional
    def cancel(self, request: Request, pk: UUID) -> Response:
        """Stops what was not submitted yet, and releases its money. The provider has no cancel: later it is refused.

        A request for approval that it waits in is withdrawn: the others in it are drafts again.
        """
        generation = self.get_object()
        reason = self.valid(CancelFields).get("reason", "")
        orders.cancel(generation, by=self.person, reason=reason, expected=self.expected)
        return self._row(generation)

    def _ask_price_of_retry(self, request: Request, pk: UUID) -> None:
        self.prices = quotes.ask_retry_prices([self.get_object()])

    @extend_schema(request=Confirmation, responses={202: QueuedGenerationSerializer})
    @action(detail=True, methods=["post"])
    @queueing.refusals_told()
    @idempotent(before=_ask_price_of_retry)
    def retry(self, request: Request, pk: UUID) -> Response:
        """A new, paid generation with the same inputs, which names this one in `retry_of`."""
        generation = self.get_object()
        confirm = self.valid(Confirmation)["confirm"]
        again = orders.retry(generation, by=self.person, confirm=confirm, told=self.prices)
        return self._queued(again)

    @extend_schema(request=NoFields, responses=GenerationSerializer)
    @action(detail=True, methods=["post"], url_path="ignore-result", url_name="ignore-result")
    @idempotent
    def ignore_result(self, request: Request, pk: UUID) -> Response:
        """Marks what is on its way as not wanted; it is paid, and stored, all the same. `want-result/` takes it back."""
        generation = self.get_object()
        self.valid(NoFields)
        drafts.ignore_result(generation, by=self.person)
        return self._row(generation)

    @extend_schema(request=NoFields, responses=GenerationSerializer)
    @action(detail=True, methods=["post"], url_path="want-result", url_name="want-result")
    @idempotent
    def want_result(self, request: Request, pk: UUID) -> Response:
        """Takes back that the result is not wanted."""
        generation = self.get_object()
        self.valid(NoFields)
        drafts.want_result(generation, by=self.person)
        return self._row(generation)

    @extend_schema(responses=CandidateSerializer(many=True))
    @action(detail=True, methods=["get"], filter_backends=[])
    def candidates(self, request: Request, pk: UUID) -> Response:
        """The predictions at the provider that may be what became of an unconfirmed generation; for owners, as they may be others'."""
        return self.listed(decisions.candidates_of(self.get_object()), CandidateSerializer)

    @extend_schema(request=AssignFields, responses=GenerationSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def assign(self, request: Request, pk: UUID) -> Response:
        """An owner decides that it became this candidate: it goes on as if its reply had come."""
        generation, fields = self.get_object(), self.valid(AssignFields)
        candidate = generation.candidates.filter(pk=fields["candidate"]).first()
        if candidate is None:
            raise ValidationError({"candidate": ["This is none of its candidates: see candidates/."]}, "no_candidate")
        decisions.assign(generation, candidate, by=self.person, reason=fields["reason"])
        return self._row(generation)

    @extend_schema(request=NotMadeFields, responses=GenerationSerializer)
    @action(detail=True, methods=["post"], url_path="not-made", url_name="not-made")
    @idempotent
    def not_made(self, request: Request, pk: UUID) -> Response:
        """An owner decides that it was not made: it has failed, and its money is free. Refused in the first 15 minutes, and
        until the provider's list and bill were read after that (409 `too_soon`, `not_read`; see `looks`)."""
        generation = self.get_object()
        decisions.settle_not_made(generation, by=self.person, reason=self.valid(NotMadeFields)["reason"])
        return self._row(generation)

    @extend_schema(request=TakeOutputFields, responses=GenerationSerializer)
    @action(detail=True, methods=["post"], url_path="take-output", url_name="take-output")
    @idempotent
    def take_output(self, request: Request, pk: UUID) -> Response:
        """An owner decides where its video is, as the provider's answer is not understood (`needs_look`): it is stored and charged."""
        generation, fields = self.get_object(), self.valid(TakeOutputFields)
        decisions.take_output(generation, fields["address"], by=self.person, reason=fields["reason"])
        return self._row(generation)

    @extend_schema(request=NotMadeFields, responses=GenerationSerializer)
    @action(detail=True, methods=["post"], url_path="no-video", url_name="no-video")
    @idempotent
    def no_video(self, request: Request, pk: UUID) -> Response:
        """An owner decides that it ended without a video, as the provider's answer is not understood: its money follows the bill."""
        generation = self.get_object()
        decisions.end_without_video(generation, by=self.person, reason=self.valid(NotMadeFields)["reason"])
        return self._row(generation)

    @extend_schema(request=TakeFields, responses=GenerationSerializer)
    @action(detail=True, methods=["post"], url_path="take-as-it-is", url_name="take-as-it-is")
    @idempotent
    def take_as_it_is(self, request: Request, pk: UUID) -> Response:
        """An owner takes what came in place of its video: it is completed, and the studio stops trying."""
        generation = self.get_object()
        decisions.take_as_it_is(generation, by=self.person, reason=self.valid(TakeFields)["reason"])
        return self._row(generation)

    @extend_schema(responses=EventSerializer(many=True))
    @action(detail=True, methods=["get"], filter_backends=[])
    def events(self, request: Request, pk: UUID) -> Response:
        """Every move of the generation: when, from where, to where, why, by whom."""
        return self.listed(self.get_object().events.select_related("by"), EventSerializer)

    def _row(self, generation: Generation, status_code: int = status.HTTP_200_OK) -> Response:
        return self.shown(self._now(generation), GenerationSerializer, status_code)

    def _now(self, generation: Generation) -> Generation:
        """Also for who was removed from the project since: what they did is done, and they are told so."""
        return self._rows().get(pk=generation.pk)

    def _queued(self, generation: Generation) -> Response:
        row = self._now(generation)
        return self.shown(row, QueuedGenerationSerializer, status.HTTP_202_ACCEPTED)


class ProjectPauseViewSet(Api):
    """Below a project: whether what is queued in it is submitted."""

    queryset = Project.objects.none()
    serializer_class = ProjectSerializer
    filter_backends = []

    @extend_schema(request=ReasonFields, responses=ProjectSerializer)
    @idempotent
    def pause(self, request: Request, project_id: UUID) -> Response:
        """Nothing of it is submitted any more. What is queued waits, its money stays held; what was submitted goes on."""
        project = visible_project(self.person, project_id)
        permissions.require(self.person, "manage", project)
        pauses.pause_project(project, reason=self.valid(ReasonFields)["reason"], by=self.person)
        return self._row(project_id)

    @extend_schema(request=OptionalReasonFields, responses=ProjectSerializer)
    @idempotent
    def resume(self, request: Request, project_id: UUID) -> Response:
        """What is queued goes on in turn. What a studio owner paused, only studio owners resume."""
        project = visible_project(self.person, project_id)
        permissions.require(self.person, "manage", project)
        pauses.resume_project(project, reason=self.valid(OptionalReasonFields).get("reason", ""), by=self.person)
        return self._row(project_id)

    def _row(self, pk: UUID) -> Response:
        """Also for who was removed from the project since."""
        return self.shown(
            Project.objects.select_related("created_by", "pause__paused_by").get(pk=pk), ProjectSerializer
        )

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "roles": permissions.roles(self.person)}


class ApprovalViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Api):
    """Requests for approval, each of one or several generations that were queued together and cost more than the project lets
    people spend alone."""

    queryset = Approval.objects.none()
    serializer_class = ApprovalSerializer
    filterset_class = ApprovalFilter
    refuses = {"approve": [402]}
    ordering_fields = ["requested_at", "expires_at", "amount"]

    def get_queryset(self) -> QuerySet[Approval]:
        return self._rows().filter(project__in=permissions.visible_projects(self.person))

    def _rows(self) -> QuerySet[Approval]:
        return Approval.objects.select_related("project", "requested_by", "decided_by").prefetch_related("generations")

    @extend_schema(request=ApproveFields, responses={202: ApprovedSerializer})
    @action(detail=True, methods=["post"])
    @idempotent(atomic=False)
    def approve(self, request: Request, pk: UUID) -> Response:
        """Reserves the frozen price and queues all of it. Where it does not fit the budgets now, it goes on waiting (402)."""
        approval = self.get_object()
        permissions.require(self.person, "approve", approval.project)
        approvals.approve(approval, by=self.person, **self.valid(ApproveFields))
        return self.shown(self._rows().get(pk=approval.pk), ApprovedSerializer, status.HTTP_202_ACCEPTED)

    @extend_schema(request=RejectFields, responses=ApprovalSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def reject(self, request: Request, pk: UUID) -> Response:
        """Makes its generations drafts again, with the comment in their history; nothing was reserved."""
        approval = self.get_object()
        permissions.require(self.person, "approve", approval.project)
        approvals.reject(approval, by=self.person, **self.valid(RejectFields))
        return self._row(approval)

    def _row(self, approval: Approval) -> Response:
        """Also for who was removed from the project since."""
        return self.shown(self._rows().get(pk=approval.pk), ApprovalSerializer)


@extend_schema_view(
    list=extend_schema(
        description="The videos of the projects that you see, the newest first, without those in the trash."
    ),
    retrieve=extend_schema(description="One video, in the trash or not."),
)
class VideoViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Api):
    queryset = Video.objects.none()
    serializer_class = VideoSerializer
    filterset_class = VideoFilter
    refuses = {"restore": [410], "download": [410]}
    # The newest first, by an index: the order of a generation's own videos would sort them all.
    ordering = ["-created_at", "-id"]
    ordering_fields = ["created_at", "trashed_at", "bytes"]

    def get_queryset(self) -> QuerySet[Video]:
        rows = permissions.visible(Video.objects.all(), self.person, "generation__project")
        return rows.select_related("generation__project", "generation__image")

    @extend_schema(responses={204: OpenApiResponse(description="In the trash: 30 days later its files are deleted.")})
    def destroy(self, request: Request, pk: UUID) -> Response:
        """Moves it to the trash, from which `restore/` takes it."""
        trash.trash(self.get_object(), by=self.person)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses=VideoSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def restore(self, request: Request, pk: UUID) -> Response:
        """Out of the trash; 410 when its files are deleted by now."""
        video = self.get_object()
        trash.restore(video, by=self.person)
        return self.shown(video, VideoSerializer)

    @extend_schema(responses={302: OpenApiResponse(description="To a signed address of the file, which expires.")})
    @action(detail=True, methods=["get"])
    def download(self, request: Request, pk: UUID) -> HttpResponseRedirect:
        """Leads to the video's file, to be saved by a name that people can read."""
        video = self.get_object()
        trash.require_files(video)
        return HttpResponseRedirect(request.build_absolute_uri(naming.download_url(video)))
