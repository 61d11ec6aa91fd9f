"""One's own API tokens: which there are, and an end to one. They are made in the admin or on the command line."""

from django.http import Http404
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from projects.api.base.views import Api
from projects.people import tokens


class TokenSerializer(serializers.Serializer):
    # The token itself is left out: nobody has it but who it was shown to.
    id = serializers.CharField(source="pk")
    begins_with = serializers.CharField(help_text="its first characters")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    is_current = serializers.SerializerMethodField(help_text="this request came with it")

    def get_is_current(self, token: tokens.Token) -> bool:
        digest = getattr(self.context["request"].auth, "digest", "")
        return bool(digest) and digest.startswith(token.pk)


class TokenViewSet(Api):
    queryset = None
    serializer_class = TokenSerializer
    filter_backends = []
    lookup_value_converter = "str"

    @extend_schema(responses=TokenSerializer(many=True))
    def list(self, request: Request) -> Response:
        """Your tokens that work."""
        return self.listed(tokens.own(self.person), TokenSerializer)

    @extend_schema(
        parameters=[OpenApiParameter("id", str, OpenApiParameter.PATH)],
        responses={204: OpenApiResponse(description="Whatever uses it is no longer let in.")},
    )
    def destroy(self, request: Request, id: str) -> Response:
        """Ends a token at once, this request's own too."""
        token = tokens.find(id, self.person)
        # Studio owners end other people's in the admin, where they see whose it is.
        if token is None or token.user != self.person:
            raise Http404
        tokens.revoke(id, by=self.person)
        return Response(status=status.HTTP_204_NO_CONTENT)
