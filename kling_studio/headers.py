"""What every answer tells the browser that it may do with it; the policy of pages is `CONTENT_SECURITY_POLICY` in the settings."""

from typing import Any

from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest
from django.http.response import HttpResponseBase

# Sounds, sensors and payments are nothing that a page of ours asks for; the player goes to full screen.
NOT_USED = (
    "accelerometer",
    "autoplay",
    "camera",
    "display-capture",
    "geolocation",
    "gyroscope",
    "magnetometer",
    "microphone",
    "midi",
    "payment",
    "usb",
)
PERMISSIONS_POLICY = ", ".join([*(f"{name}=()" for name in NOT_USED), "fullscreen=(self)", "picture-in-picture=(self)"])

# An answer that is no page (JSON, CSV, a picture or video by itself) loads nothing but itself, and runs nothing. Browsers
# wrap a video that is opened by its address into a page of their own, with a style of their own.
NO_PAGE = {
    "default-src": [NONE],
    "img-src": [SELF],
    "media-src": [SELF],
    "style-src": [UNSAFE_INLINE],
    "frame-ancestors": [NONE],
    "base-uri": [NONE],
    "form-action": [NONE],
}


def of_pages(media: list[str], *, https: bool) -> dict[str, Any]:
    """The tightest policy that the pages work with; `media` are the sources of pictures and videos besides the studio itself.

    Unfold's Alpine evaluates the expressions in its attributes (unsafe-eval) and its bars have widths (style attributes). No
    inline script and no inline `<style>` is let through.
    """
    return {
        "default-src": [NONE],
        "script-src": [SELF, UNSAFE_EVAL],
        # The first is for browsers that don't know the other two.
        "style-src": [SELF, UNSAFE_INLINE],
        "style-src-elem": [SELF],
        "style-src-attr": [UNSAFE_INLINE],
        "img-src": [SELF, "data:", *media],
        "media-src": [SELF, *media],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "object-src": [NONE],
        "upgrade-insecure-requests": https,
    }


class HeadersMiddleware(CSPMiddleware):
    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        is_page = response.get("Content-Type", "").startswith("text/html")
        return parts if is_page or report_only else PolicyParts(config=NO_PAGE)

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        response.headers.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
        # Also on what Django's own middleware never sees: the media of a storage that answers by itself.
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        return super().process_response(request, response)
