"""What operations answer, as the schema tells it: the refusals that each can meet, and the headers of its answers."""

from typing import Any

from projects.api.base.codes import CODES

# Of a refusal that is worth asking again, and of a login that is missing.
RETRY_AFTER, WWW_AUTHENTICATE = "Retry-After", "WWW-Authenticate"
HEADERS = {
    RETRY_AFTER: ("After so many seconds it is worth asking again.", "integer"),
    WWW_AUTHENTICATE: ("How to say who you are.", "string"),
    "ETag": ("The row's `version` in quotes, for `If-Match`.", "string"),
    "Idempotency-Replayed": ("`true`: the first answer to this `Idempotency-Key`, given again.", "string"),
    "Location": ("Where the file is, for as long as its signature holds.", "string"),
    "Content-Disposition": ("The name to save it by.", "string"),
}
OF_REFUSALS = {
    401: [WWW_AUTHENTICATE],
    409: [RETRY_AFTER],
    412: ["ETag"],
    429: [RETRY_AFTER],
    503: [RETRY_AFTER],
}
# As RFC 9110 has them: Python's own change with its versions.
NAMES = {
    400: "BadRequest",
    401: "Unauthorized",
    402: "PaymentRequired",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Gone",
    412: "PreconditionFailed",
    413: "ContentTooLarge",
    415: "UnsupportedMediaType",
    422: "UnprocessableContent",
    429: "TooManyRequests",
    500: "InternalServerError",
    503: "ServiceUnavailable",
}
OF_ALL = {400, 429, 500, 503}


def header(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}


def refusal(status: int) -> dict[str, str]:
    return {"$ref": f"#/components/responses/{NAMES[status]}"}


def _told(status: int) -> dict[str, Any]:
    codes = ", ".join(f"`{name}`" for name, code in CODES.items() if status in code.statuses)
    told = {
        "description": f"With one of the codes {codes}.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    if status in OF_REFUSALS:
        told["headers"] = {name: header(name) for name in OF_REFUSALS[status]}
    return told


def add_components(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """A hook of drf-spectacular: refusals and headers stand in the document once."""
    result["components"]["responses"] = {NAMES[status]: _told(status) for status in sorted(NAMES)}
    result["components"]["headers"] = {
        name: {"description": described, "schema": {"type": kind}} for name, (described, kind) in HEADERS.items()
    }
    return result
