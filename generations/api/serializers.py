from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request

from generations import catalog
from generations.api.errors import link
from generations.catalog.endpoint import Endpoint
from generations.catalog.parameters import Choice
from generations.failures import SENTENCES, Failure
from generations.lifecycle.progress import percent
from generations.models import (
    Approval,
    Element,
    Generation,
    GenerationEvent,
    Look,
    Priority,
    RefusedOutput,
    Status,
    UnassignedPrediction,
    Video,
)
from generations.services import costs, decisions, orders, quotes, reasons
from generations.storage import shortcomings
from generations.storage.video import MATROSKA, MP4, QUICKTIME, WEBM
from projects.api.base.bodies import Body, Strict
from projects.api.base.fields import AddressField, MoneyField, StrictBooleanField, dollars
from projects.api.serializers import EQUAL_TAGS, SIGNED, FiguresSerializer

CURRENCY = "USD"
CURRENCY_FIELD = serializers.ChoiceField(choices=[CURRENCY])
VIDEO_TYPES = [
    *(container.content_type for container in (MP4, QUICKTIME, WEBM, MATROSKA)),
    "application/octet-stream",
]
SHOT_TYPES = [
    choice
    for endpoint in catalog.ENDPOINTS.values()
    for parameter in endpoint.parameters
    if isinstance(parameter, Choice) and parameter.name == "shot_type"
    for choice in parameter.choices
]
UUID_SCHEMA = {"type": "string", "format": "uuid"}
TAGS_HELP = (
    "for reports and filters, never sent to the provider; without own ones, reports take those of the start image; "
    f"{EQUAL_TAGS}"
)
PRIORITY_HELP = "its place among what its project has queued; projects take turns, whatever their priorities"
WARNINGS_HELP = "sentences: each soft budget that is over its limit now"


def shown_link(generation: Generation, request: Request) -> dict[str, Any]:
    there = link(generation)
    return {**there, "url": request.build_absolute_uri(there["url"])}


def parameter_schemas(endpoint: Endpoint) -> dict[str, Any]:
    """JSON Schema of each parameter as this API takes it: pictures and elements are ids of ours."""
    schemas: dict[str, Any] = dict(endpoint.json_schema())["properties"]  # type: ignore[assignment]
    for parameter in endpoint.parameters:
        own: dict[str, Any]
        if parameter.kind == "image":
            own = {**UUID_SCHEMA, "description": f"{parameter.description} Id of a source image."}
        elif parameter.kind == "elements":
            items = {"type": "array", "items": UUID_SCHEMA, "minItems": 1, "uniqueItems": True}
            own = {**items, "description": f"{parameter.description} Ids of elements."}
        else:
            continue
        # Whether it may be null is the catalogue's to say.
        nullable = isinstance(schemas[parameter.name]["type"], list)
        schemas[parameter.name] = own | ({"type": [own["type"], "null"]} if nullable else {})
    return schemas


def inputs_schema() -> dict[str, Any]:
    """The parameters of all endpoints together, in OpenAPI's words: 3.0 has a word of its own for what may be null."""
    schemas = {name: schema for each in catalog.ENDPOINTS.values() for name, schema in parameter_schemas(each).items()}
    return {name: _in_openapi(schema) for name, schema in schemas.items()}


def _in_openapi(schema: dict[str, Any]) -> dict[str, Any]:
    match schema:
        case {"type": [kind, "null"]}:
            return {**schema, "type": kind, "nullable": True}
    return schema


class PriceSerializer(serializers.Serializer):
    amount = serializers.CharField(help_text="a decimal")
    currency = serializers.ChoiceField(choices=[CURRENCY])
    per_seconds = serializers.IntegerField(
        allow_null=True, help_text="for each started block of so many seconds of video; null: for the whole"
    )


class EndpointSerializer(serializers.Serializer):
    id = serializers.CharField()
    title = serializers.CharField()
    parameters = serializers.DictField(help_text="JSON Schema (2020-12) of the inputs")
    price = PriceSerializer()
    usual_seconds = serializers.IntegerField(help_text="how long a generation usually takes")

    def to_representation(self, endpoint: Endpoint) -> dict[str, Any]:
        pricing = endpoint.pricing
        return {
            "id": endpoint.id,
            "title": endpoint.title,
            "parameters": {**endpoint.json_schema(), "properties": parameter_schemas(endpoint)},
            "price": {"amount": str(pricing.usd), "currency": CURRENCY, "per_seconds": pricing.per_seconds},
            "usual_seconds": endpoint.usual_seconds,
        }


class ShortcomingSerializer(serializers.Serializer):
    code = serializers.ChoiceField(choices=["unreadable", "shorter", "smaller", "silent"])
    message = serializers.CharField(source="text")


class VideoSerializer(serializers.ModelSerializer):
    url = AddressField(source="file", read_only=True, allow_null=True, help_text=SIGNED)
    poster_url = AddressField(source="poster", read_only=True, allow_null=True, help_text="signed, expires")
    duration = serializers.FloatField(allow_null=True, help_text="seconds")
    fps = serializers.FloatField(allow_null=True, help_text="frames per second")
    codec = serializers.CharField(
        read_only=True, help_text="FFmpeg's name of it, such as h264; empty: it can't be read"
    )
    content_type = serializers.ChoiceField(choices=VIDEO_TYPES, read_only=True, help_text="how the file is packed")
    shortcomings = serializers.SerializerMethodField(
        help_text="what it lacks of what was ordered: it can't be read, is shorter, smaller, or has no sound; empty: nothing"
    )

    class Meta:
        model = Video
        fields = [
            "id",
            "generation",
            "url",
            "poster_url",
            "width",
            "height",
            "duration",
            "fps",
            "codec",
            "content_type",
            "has_audio",
            "bytes",
            "sha256",
            "probe_error",
            "probe_note",
            "shortcomings",
            "taken_as_it_is_at",
            "created_at",
            "trashed_at",
            "purged_at",
        ]
        read_only_fields = fields

    @extend_schema_field(ShortcomingSerializer(many=True))
    def get_shortcomings(self, video: Video) -> Any:
        return ShortcomingSerializer(shortcomings.of(video), many=True).data


class RefusedOutputSerializer(serializers.ModelSerializer):
    """What came, the last time, in place of an output's video."""

    class Meta:
        model = RefusedOutput
        fields = [
            "position",
            "why",
            "bytes",
            "sha256",
            "content_type",
            "beginning",
            "is_picture",
            "times",
            "first_at",
            "last_at",
        ]
        read_only_fields = fields


class FailureSerializer(serializers.Serializer):
    code = serializers.ChoiceField(choices=list(SENTENCES), help_text="stable; for programs")
    message = serializers.CharField(help_text="what happened, and what to do next")
    detail = serializers.CharField(help_text="the provider's words")


class NeedsLookSerializer(serializers.Serializer):
    since = serializers.DateTimeField()
    why = serializers.CharField(help_text="what is wrong, and what people may do about it")
    addresses = serializers.ListField(
        child=serializers.CharField(),
        help_text="those in the provider's answer, where that is not understood: see `take-output/`",
    )


class CostSerializer(serializers.Serializer):
    state = serializers.ChoiceField([state.value for state in costs.State])
    amount = MoneyField(help_text="what it would cost, what is reserved or held for it, or what was charged")
    text = serializers.CharField(help_text="a sentence for people")


class LookSerializer(serializers.Serializer):
    source = serializers.ChoiceField(choices=Look.Source.choices)  # type: ignore[assignment]  # a field, not whose it is
    tried_at = serializers.DateTimeField(allow_null=True)
    read_at = serializers.DateTimeField(allow_null=True, help_text="null: it could never be read")
    error = serializers.CharField(help_text="why the last try failed; empty: it did not")


class RequestSerializer(serializers.ModelSerializer):
    """What a generation shows of the request for approval that it is, or was last, in."""

    amount = MoneyField(help_text="of all its generations together; frozen")

    class Meta:
        model = Approval
        fields = ["id", "decision", "amount", "expires_at", "comment", "budget_error"]
        read_only_fields = fields


class PriorityField(serializers.ChoiceField):
    """A word here, a number in the database."""

    def __init__(self, **options: Any) -> None:
        super().__init__([priority.name.lower() for priority in Priority], help_text=PRIORITY_HELP, **options)

    def to_internal_value(self, data: Any) -> Any:
        return Priority[super().to_internal_value(data).upper()]

    def to_representation(self, value: Any) -> str:
        return Priority(value).name.lower()


class ShotSerializer(serializers.Serializer):
    prompt = serializers.CharField()
    duration = serializers.IntegerField(help_text="seconds")


class GenerationSerializer(serializers.ModelSerializer):
    endpoint = serializers.ChoiceField(choices=list(catalog.ENDPOINTS))
    shot_type = serializers.SerializerMethodField(help_text="null: its endpoint has none")
    priority = PriorityField(read_only=True)
    element_list = serializers.SerializerMethodField()
    tags = serializers.ListField(child=serializers.CharField(), help_text=TAGS_HELP)
    multi_prompt = ShotSerializer(many=True)
    quote = serializers.SerializerMethodField(
        help_text="frozen when it is queued or asked to be approved; before that, today's price"
    )
    charged = MoneyField(allow_null=True, help_text="null until the provider's bill, or its success, tells")
    cost = serializers.SerializerMethodField(help_text="what became of its price")
    currency = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField(help_text="why it failed; null: it has not")
    trouble = serializers.SerializerMethodField(
        help_text="why the last try to hand it over or to store it came to nothing; it is tried again by itself"
    )
    needs_look = serializers.SerializerMethodField(
        help_text="why it does not go on without a person, and since when; null: it does, or it has ended"
    )
    looks = serializers.SerializerMethodField(
        help_text="while it is unconfirmed, when the provider's list and bill were last read to find it; `not-made/` takes both"
    )
    progress = serializers.SerializerMethodField(help_text="percent, estimated from the endpoint's usual duration")
    approval = RequestSerializer(allow_null=True, help_text="null: none was ever asked for")
    videos = VideoSerializer(many=True)
    refused_outputs = RefusedOutputSerializer(
        many=True, help_text="outputs of which something else came than a video; those are tried again for 7 days"
    )
    requested_by = serializers.CharField(source="requested_by.username")

    class Meta:
        model = Generation
        fields = [
            "id",
            "version",
            "project",
            "endpoint",
            "status",
            "prompt",
            "image",
            "end_image",
            "duration",
            "sound",
            "shot_type",
            "multi_prompt",
            "element_list",
            "tags",
            "priority",
            "quote",
            "charged",
            "cost",
            "currency",
            "prediction_id",
            "error",
            "trouble",
            "needs_look",
            "looks",
            "progress",
            "approval",
            "videos",
            "refused_outputs",
            "retry_of",
            "requested_by",
            "created_at",
            "queued_at",
            "submitted_at",
            "completed_at",
            "result_ignored_at",
        ]
        read_only_fields = fields

    @extend_schema_field(serializers.ListField(child=serializers.UUIDField()))
    def get_element_list(self, generation: Generation) -> list[str]:
        return [str(each.element_id) for each in generation.element_links.all()]

    @extend_schema_field(serializers.ChoiceField(choices=SHOT_TYPES, allow_null=True))
    def get_shot_type(self, generation: Generation) -> str | None:
        return generation.shot_type or None

    @extend_schema_field(MoneyField)
    def get_quote(self, generation: Generation) -> str:
        return dollars(costs.price(generation))

    @extend_schema_field(CostSerializer)
    def get_cost(self, generation: Generation) -> dict[str, str]:
        cost = costs.of(generation)
        return {"state": cost.state, "amount": dollars(cost.amount), "text": cost.text}

    @extend_schema_field(CURRENCY_FIELD)
    def get_currency(self, generation: Generation) -> str:
        return CURRENCY

    @extend_schema_field(FailureSerializer(allow_null=True))
    def get_error(self, generation: Generation) -> dict[str, str] | None:
        # Before, the code tells of a try that will be repeated: see `trouble`.
        if generation.status != Status.FAILED:
            return None
        failure = Failure(generation.error_code, generation.error_message)
        return {
            "code": failure.code if failure.code in SENTENCES else "failed",
            "message": failure.sentence,
            "detail": failure.provider_says,
        }

    def get_trouble(self, generation: Generation) -> str | None:
        return (generation.error_message or None) if generation.status != Status.FAILED else None

    @extend_schema_field(NeedsLookSerializer(allow_null=True))
    def get_needs_look(self, generation: Generation) -> dict[str, Any] | None:
        if generation.needs_look_since is None:
            return None
        addresses = generation.outputs if generation.status == Status.PROCESSING else []
        return {"since": generation.needs_look_since, "why": generation.needs_look_why, "addresses": addresses}

    @extend_schema_field(LookSerializer(many=True))
    def get_looks(self, generation: Generation) -> Any:
        if generation.status != Status.UNCONFIRMED:
            return []
        return LookSerializer(decisions.looks(generation), many=True).data

    def get_progress(self, generation: Generation) -> int:
        return percent(generation)


class QueuedGenerationSerializer(GenerationSerializer):
    warnings = serializers.SerializerMethodField(help_text=WARNINGS_HELP)

    class Meta(GenerationSerializer.Meta):
        fields = [*GenerationSerializer.Meta.fields, "warnings"]
        read_only_fields = fields

    def get_warnings(self, generation: Generation) -> list[str]:
        return orders.soft_budget_warnings([generation])


class CandidateSerializer(serializers.ModelSerializer):
    """A prediction at the provider that may be what became of an unconfirmed generation."""

    model = serializers.CharField(source="endpoint", help_text="empty: the provider does not tell it")
    status = serializers.CharField(source="provider_status", help_text="the provider's word")
    found_in = serializers.ChoiceField(choices=UnassignedPrediction.FoundBy.choices, source="found_by")
    inputs = serializers.DictField(help_text="as the provider tells them, without secrets; empty where it hides them")
    videos = VideoSerializer(many=True, help_text="what is stored of it, so that it can't expire")

    class Meta:
        model = UnassignedPrediction
        fields = ["id", "prediction_id", "model", "status", "made_at", "found_at", "found_in", "inputs", "videos"]
        read_only_fields = fields


class AssignFields(Strict):
    candidate = serializers.UUIDField(help_text="the id of one of its candidates")
    reason = serializers.CharField(max_length=reasons.MOST_CHARACTERS, help_text="how you know; kept in its history")


class TakeOutputFields(Strict):
    address = serializers.CharField(
        max_length=8000, help_text="where its video is: one of `needs_look.addresses`, or another one"
    )
    reason = serializers.CharField(max_length=reasons.MOST_CHARACTERS, help_text="how you know; kept in its history")


class NotMadeFields(Strict):
    reason = serializers.CharField(max_length=reasons.MOST_CHARACTERS, help_text="how you know; kept in its history")


class TakeFields(Strict):
    reason = serializers.CharField(max_length=reasons.MOST_CHARACTERS, help_text="why it will do; kept in its history")


class EventSerializer(serializers.ModelSerializer):
    old_status = serializers.SerializerMethodField(help_text="null for the first event")
    new_status = serializers.ChoiceField(choices=Status.choices)
    by = serializers.CharField(
        source="by.username", default=None, allow_null=True, read_only=True, help_text="null: the studio itself"
    )

    class Meta:
        model = GenerationEvent
        fields = ["at", "old_status", "new_status", "reason", "by"]

    @extend_schema_field(serializers.ChoiceField(choices=Status.choices, allow_null=True))
    def get_old_status(self, event: GenerationEvent) -> str | None:
        return event.old_status or None


class WithInputs(Body):
    """Fields of ours, and `inputs`: all others, which are the endpoint's parameters and are checked by the catalogue."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return super().to_internal_value(data)
        ours = {name: value for name, value in data.items() if name in self.fields}
        inputs = {name: value for name, value in data.items() if name not in self.fields}
        return {**super().to_internal_value(ours), "inputs": inputs}


class GenerationChanges(WithInputs):
    tags = serializers.ListField(child=serializers.CharField(), required=False)
    priority = PriorityField(required=False)


class NewGeneration(WithInputs):
    project = serializers.UUIDField()
    endpoint = serializers.CharField(max_length=200)
    tags = serializers.ListField(child=serializers.CharField(), default=list)
    priority = PriorityField(default=Priority.NORMAL)
    queue = StrictBooleanField(default=False)
    confirm = StrictBooleanField(default=False)


class Confirmation(Strict):
    confirm = StrictBooleanField(
        default=False, help_text="pay for another one although the same video exists or is on its way"
    )


class ReasonFields(Strict):
    reason = serializers.CharField(max_length=reasons.MOST_CHARACTERS)


class OptionalReasonFields(Strict):
    reason = serializers.CharField(required=False, allow_blank=True, max_length=reasons.MOST_CHARACTERS)


class CancelFields(Strict):
    reason = serializers.CharField(required=False, allow_blank=True, max_length=reasons.MOST_CHARACTERS)


class NoFields(Strict):
    pass


class LinkSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=Status.choices)
    url = serializers.URLField()


class QuoteSerializer(serializers.Serializer):
    amount = MoneyField(help_text="what would be reserved: the higher one of the two prices")
    catalogue_price = MoneyField(source="catalogue")
    live_price = MoneyField(source="live", allow_null=True, help_text="the provider's own; null where it is not asked")
    needs_approval = serializers.BooleanField(help_text="whether it would be awaiting_approval instead of queued")
    currency = serializers.SerializerMethodField()
    fits = serializers.BooleanField(
        help_text="whether the hard budgets have so much free, and the project has a budget"
    )
    budgets = FiguresSerializer(many=True, source="figures")
    existing = serializers.SerializerMethodField(help_text="the same video, asked for lately: confirm to pay again")

    @extend_schema_field(CURRENCY_FIELD)
    def get_currency(self, quote: quotes.Quote) -> str:
        return CURRENCY

    @extend_schema_field(LinkSerializer(many=True))
    def get_existing(self, quote: quotes.Quote) -> list[dict[str, Any]]:
        return [shown_link(generation, self.context["request"]) for generation in quote.existing]


class ApprovalSerializer(serializers.ModelSerializer):
    amount = MoneyField(help_text="of all its generations together; frozen until it expires")
    currency = serializers.SerializerMethodField()
    requested_by = serializers.CharField(source="requested_by.username")
    decided_by = serializers.CharField(
        source="decided_by.username", default=None, allow_null=True, help_text="null: nobody, or the studio itself"
    )
    generations = serializers.SerializerMethodField()

    class Meta:
        model = Approval
        fields = [
            "id",
            "project",
            "decision",
            "amount",
            "currency",
            "requested_by",
            "requested_at",
            "expires_at",
            "decided_by",
            "decided_at",
            "comment",
            "budget_error",
            "generations",
        ]
        read_only_fields = fields

    @extend_schema_field(CURRENCY_FIELD)
    def get_currency(self, approval: Approval) -> str:
        return CURRENCY

    @extend_schema_field(LinkSerializer(many=True))
    def get_generations(self, approval: Approval) -> list[dict[str, Any]]:
        return [shown_link(generation, self.context["request"]) for generation in approval.generations.all()]


class ApprovedSerializer(ApprovalSerializer):
    warnings = serializers.SerializerMethodField(help_text=WARNINGS_HELP)

    class Meta(ApprovalSerializer.Meta):
        fields = [*ApprovalSerializer.Meta.fields, "warnings"]
        read_only_fields = fields

    def get_warnings(self, approval: Approval) -> list[str]:
        return orders.soft_budget_warnings(approval.generations.all())


class ApproveFields(Strict):
    comment = serializers.CharField(required=False, allow_blank=True, max_length=500)
    confirm = StrictBooleanField(
        default=False, help_text="pay for it although the same video was queued since it was asked for"
    )


class RejectFields(Strict):
    comment = serializers.CharField(max_length=500, help_text="what would have to change")


class ElementSerializer(serializers.ModelSerializer):
    created_by = serializers.CharField(source="created_by.username")

    class Meta:
        model = Element
        fields = [
            "id",
            "version",
            "project",
            "name",
            "description",
            "element_id",
            "created_by",
            "created_at",
            "archived_at",
        ]
        read_only_fields = fields


class ElementFields(Strict):
    name = serializers.CharField(max_length=20, help_text="Name it like this in the prompt.")
    description = serializers.CharField(required=False, allow_blank=True, max_length=100)


class NewElement(ElementFields):
    project = serializers.UUIDField()
    element_id = serializers.RegexField(
        r"^[0-9]+$",
        max_length=64,
        error_messages={"invalid": "An element id is digits only, such as 306696265837507."},
        help_text="Kling's id of the element: digits, as text",
    )
