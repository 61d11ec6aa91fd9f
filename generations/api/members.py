"""Members; here and not in `projects`, because who leaves has what they asked for withdrawn."""

from uuid import UUID

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import mixins, status
from rest_framework.request import Request
from rest_framework.response import Response

from generations.services import people
from projects import permissions
from projects.api.base.idempotency import idempotent
from projects.api.base.preconditions import conditional
from projects.api.serializers import InvitationFields, InvitationSerializer, MembershipSerializer, RoleFields
from projects.api.views import OfProject
from projects.models import Membership, Role
from projects.people import members


@extend_schema_view(list=extend_schema(description="The members of the project, with their roles."))
class MemberViewSet(mixins.ListModelMixin, OfProject):
    queryset = Membership.objects.none()
    serializer_class = MembershipSerializer
    ordering_fields = ["role", "created_at"]

    def get_queryset(self) -> QuerySet[Membership]:
        return Membership.objects.filter(project=self.project, is_active=True).select_related("user", "project")

    @extend_schema(request=InvitationFields, responses={201: InvitationSerializer})
    @idempotent
    def create(self, request: Request, project_id: UUID) -> Response:
        """Invites somebody by e-mail; they are a member when they have opened its link, with an account of that address.

        With `for_anyone`, whoever has the link joins by it, once.
        """
        permissions.require(self.person, "manage", self.project)
        fields = self.valid(InvitationFields)
        fields["role"] = Role(fields["role"])
        invitation, _ = members.invite(self.project, **fields, by=self.person)
        return self.shown(invitation, InvitationSerializer, status.HTTP_201_CREATED)

    @extend_schema(request=RoleFields, responses=MembershipSerializer)
    @conditional
    def partial_update(self, request: Request, project_id: UUID, pk: int) -> Response:
        """Below editor, their requests for approval are withdrawn; what is queued goes on."""
        membership = self.get_object()
        permissions.require(self.person, "manage", self.project)
        role = Role(self.valid(RoleFields)["role"])
        people.change_role(membership, role=role, by=self.person, expected=self.expected)
        return self.shown(membership, MembershipSerializer)

    @extend_schema(responses={204: OpenApiResponse(description="They are no member any more; what they did stays.")})
    @conditional
    def destroy(self, request: Request, project_id: UUID, pk: int) -> Response:
        """Their requests for approval are withdrawn, and invitations by and to them end; what is queued goes on."""
        people.remove_member(self.get_object(), by=self.person, expected=self.expected)
        return Response(status=status.HTTP_204_NO_CONTENT)
