"""The API's documentation: the OpenAPI document and its page."""

from csp.constants import SELF
from csp.decorators import csp_replace
from django.utils.decorators import method_decorator
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from projects.api.base.views import Options


class SchemaDocument(Options, SpectacularAPIView):
    """The OpenAPI document."""


@method_decorator(csp_replace({"script-src": [SELF]}), name="dispatch")
class Docs(Options, SpectacularSwaggerSplitView):
    """Swagger UI, whose first script is a file of its own: inline ones are refused."""
