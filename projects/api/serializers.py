from decimal import Decimal
from typing import Any

from django.contrib.auth.models import User
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from projects.api.base.bodies import Strict
from projects.api.base.fields import AddressField, MoneyField, StrictBooleanField, WholeNumberField
from projects.models import (
    MAX_THRESHOLD,
    Enforcement,
    Invitation,
    Membership,
    Period,
    Project,
    Role,
    SourceImage,
    SpendEntry,
    TopUp,
)
from projects.money.budgets import MAX_REASON
from projects.tags import normalised


def username_of(**options: Any) -> serializers.Field:
    return serializers.CharField(read_only=True, **options)


EQUAL_TAGS = "those that differ in upper and lower case alone are kept and counted once"
APPROVAL_ABOVE = "what costs more, alone or queued together, needs an approver; null: nothing does"


class PauseSerializer(serializers.Serializer):
    paused_at = serializers.DateTimeField()
    reason = serializers.CharField()
    paused_by = username_of(source="paused_by.username")
    by_studio_owner = serializers.BooleanField(source="is_the_studios", help_text="then only studio owners resume it")


class ProjectSerializer(serializers.ModelSerializer):
    # Whose row this is, only `generations` knows; without one nothing is paused.
    pause = PauseSerializer(
        default=None, allow_null=True, read_only=True, help_text="null: what is queued is submitted in turn"
    )
    approval_above = MoneyField(allow_null=True, help_text=APPROVAL_ABOVE)
    role = serializers.SerializerMethodField(help_text="yours; null for a studio owner who is no member")
    created_by = username_of(source="created_by.username")

    class Meta:
        model = Project
        fields = [
            "id",
            "version",
            "name",
            "description",
            "time_zone",
            "approval_above",
            "retention_days",
            "role",
            "created_by",
            "created_at",
            "archived_at",
            "pause",
        ]

    @extend_schema_field(serializers.ChoiceField(choices=Role.choices, allow_null=True))
    def get_role(self, project: Project) -> str | None:
        role: Role | None = self.context["roles"].get(project.pk)
        return role.value if role else None


class ProjectFields(Strict):
    name = serializers.CharField(max_length=120)
    description = serializers.CharField(required=False, allow_blank=True, max_length=10_000)
    time_zone = serializers.CharField(required=False, max_length=64, help_text="such as Europe/Berlin")
    approval_above = MoneyField(required=False, allow_null=True, help_text=APPROVAL_ABOVE)
    retention_days = WholeNumberField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=32_767,
        help_text="videos older than this go to the trash by themselves; null: they are kept for good",
    )


class MembershipSerializer(serializers.ModelSerializer):
    username = username_of(source="user.username")
    name = username_of(source="user.get_full_name")
    email = serializers.EmailField(source="user.email", read_only=True)

    class Meta:
        model = Membership
        fields = ["id", "version", "username", "name", "email", "role", "created_at"]


class InvitationFields(Strict):
    email = serializers.EmailField(max_length=254)
    role = serializers.ChoiceField(choices=Role.choices)
    for_anyone = StrictBooleanField(
        default=False, help_text="whoever has the link may use it; else only who has the address"
    )


class InvitationSerializer(serializers.ModelSerializer):
    invited_by = username_of(source="invited_by.username")

    class Meta:
        model = Invitation
        # No link: it is a secret that only its e-mail carries, and answers are kept for idempotency keys.
        fields = ["id", "email", "role", "for_anyone", "invited_by", "created_at", "expires_at"]


class RoleFields(Strict):
    role = serializers.ChoiceField(choices=Role.choices)


class FiguresSerializer(serializers.Serializer):
    """A budget in its present period."""

    id = serializers.UUIDField(source="budget.pk")
    version = serializers.IntegerField(source="budget.version", help_text="raised by each edit")
    scope = serializers.SerializerMethodField(help_text="whose spending it limits")
    title = serializers.CharField(
        source="budget.scope", help_text="for people: Studio, or the project's and member's names"
    )
    project = serializers.UUIDField(source="budget.project_id", allow_null=True)
    user = serializers.CharField(source="budget.user.username", default=None, allow_null=True)
    period = serializers.ChoiceField(source="budget.period", choices=Period.choices)
    enforcement = serializers.ChoiceField(source="budget.enforcement", choices=Enforcement.choices)
    limit = MoneyField(help_text="in force now: base_limit + topped_up")
    base_limit = MoneyField(help_text="the budget's own")
    topped_up = MoneyField(help_text="what top-ups add to it now")
    spent = MoneyField()
    reserved = MoneyField(help_text="held for what is on its way")
    free = MoneyField(help_text="limit − spent − reserved; below zero after the limit was lowered")
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField(allow_null=True, help_text="exclusive; null for a total")
    thresholds = serializers.ListField(
        source="budget.thresholds", child=serializers.IntegerField(), help_text="percents of the limit that are told of"
    )

    @extend_schema_field(serializers.ChoiceField(choices=["studio", "project", "member"]))
    def get_scope(self, figures: Any) -> str:
        if figures.budget.project_id is None:
            return "studio"
        return "project" if figures.budget.user_id is None else "member"


class Thresholds(serializers.ListField):
    child = WholeNumberField(min_value=1, max_value=MAX_THRESHOLD)

    def __init__(self, **options: Any) -> None:
        super().__init__(
            required=False,
            max_length=20,
            help_text="percents of the limit at which owners and approvers hear of it",
            **options,
        )


class NewStudioBudget(Strict):
    period = serializers.ChoiceField(choices=Period.choices)
    enforcement = serializers.ChoiceField(choices=Enforcement.choices, default=Enforcement.HARD)
    limit = MoneyField()
    thresholds = Thresholds()


class NewBudget(NewStudioBudget):
    user = serializers.CharField(
        required=False,
        allow_null=True,
        max_length=150,
        help_text="a member's username; without it, the whole project's",
    )


class BudgetChanges(Strict):
    limit = MoneyField(required=False)
    thresholds = Thresholds()


class TopUpFields(Strict):
    amount = MoneyField(min_value=Decimal("0.000001"))
    reason = serializers.CharField(max_length=MAX_REASON)
    starts_at = serializers.DateTimeField(required=False, help_text="now, unless you say so")
    ends_at = serializers.DateTimeField(help_text="exclusive")


class TopUpSerializer(serializers.ModelSerializer):
    amount = MoneyField(help_text="added to the limit from starts_at until ends_at")
    created_by = username_of(source="created_by.username")

    class Meta:
        model = TopUp
        fields = ["id", "version", "budget", "amount", "reason", "starts_at", "ends_at", "created_by", "created_at"]


class SpendEntrySerializer(serializers.ModelSerializer):
    reserved_delta = MoneyField(help_text="added to what is held")
    spent_delta = MoneyField(help_text="added to what is spent")
    user = username_of(source="user.username", help_text="on whose behalf")
    created_by = serializers.CharField(
        source="created_by.username", default=None, allow_null=True, read_only=True, help_text="null: the studio itself"
    )

    class Meta:
        model = SpendEntry
        fields = [
            "id",
            "kind",
            "reference",
            "endpoint",
            "reserved_delta",
            "spent_delta",
            "reservation",
            "reason",
            "user",
            "created_by",
            "created_at",
        ]
        extra_kwargs = {"reference": {"help_text": "the generation that it is for"}}


IMAGE_TYPES = ["image/jpeg", "image/png"]
SIGNED = "signed, expires; null: the file was deleted from the trash"


class SourceImageSerializer(serializers.ModelSerializer):
    tags = serializers.ListField(child=serializers.CharField())
    notes = serializers.ListField(child=serializers.CharField(), help_text="what was changed for the provider")
    url = AddressField(source="file", read_only=True, allow_null=True, help_text=SIGNED)
    original_url = AddressField(source="original", read_only=True, allow_null=True, help_text=SIGNED)
    thumbnail_url = AddressField(source="thumbnail", read_only=True, allow_null=True, help_text=SIGNED)
    content_type = serializers.ChoiceField(choices=IMAGE_TYPES, read_only=True)
    source_url = serializers.SerializerMethodField(
        help_text="where it was imported from, without query; null: uploaded"
    )
    created_by = username_of(source="created_by.username")

    class Meta:
        model = SourceImage
        fields = [
            "id",
            "version",
            "project",
            "title",
            "tags",
            "url",
            "original_url",
            "thumbnail_url",
            "content_type",
            "width",
            "height",
            "bytes",
            "sha256",
            "notes",
            "original_name",
            "source_url",
            "created_by",
            "created_at",
            "archived_at",
            "trashed_at",
            "purged_at",
        ]

    @extend_schema_field(serializers.URLField(allow_null=True))
    def get_source_url(self, image: SourceImage) -> str | None:
        return image.source_url or None


class AddedImageSerializer(SourceImageSerializer):
    note = serializers.SerializerMethodField(help_text="says so if the project had this picture already, else empty")

    class Meta(SourceImageSerializer.Meta):
        fields = [*SourceImageSerializer.Meta.fields, "note"]

    def get_note(self, image: SourceImage) -> str:
        return "" if self.context["created"] else "The project has this picture already; this is the one that it has."


class TagsField(serializers.ListField):
    """The limit is for what is kept: of equal ones, one."""

    child = serializers.CharField(max_length=50)

    def to_internal_value(self, data: Any) -> list[str]:
        return normalised(super().to_internal_value(data))


class ImageFields(Strict):
    title = serializers.CharField(required=False, allow_blank=True, max_length=200)
    tags = TagsField(required=False, max_length=50, help_text=EQUAL_TAGS)


class NewImageByUrl(ImageFields):
    project = serializers.UUIDField()
    url = serializers.CharField(max_length=2000, help_text="where the picture is fetched from")


class NewImage(NewImageByUrl):
    file = serializers.FileField(required=False, allow_empty_file=True, max_length=1000)
    url = serializers.CharField(required=False, max_length=2000, help_text="instead of a file")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("file" in attrs) == ("url" in attrs):
            raise serializers.ValidationError("Give either a file (as multipart/form-data) or a url.")
        return attrs


def member_named(project: Project, name: str) -> User:
    """The member of the project with this username; raises ValidationError."""
    membership = Membership.objects.filter(project=project, is_active=True, user__username=name).select_related("user")
    found = membership.first()
    if found is None:
        raise serializers.ValidationError({"user": [f"There is no member “{name}” in {project}."]}, "not_found_here")
    return found.user
