"""Why a generation failed, in words for people: what happened, and what to do next. Pure data."""

from dataclasses import dataclass

# The provider's `data.code` of a failed task; 1406 and 1407 are told by third parties only.
PROVIDER_CODES = {
    1200: "content_moderation",
    1400: "missing_parameter",
    1401: "invalid_parameter",
    1402: "media_fetch_failed",
    1403: "execution_failed",
    1405: "task_failed",
    1406: "retries_exhausted",
    1407: "insufficient_credits",
    5000: "provider_internal_error",
    5003: "provider_unavailable",
    5004: "provider_timed_out",
}

SENTENCES = {
    "content_moderation": "The provider's moderation refused the picture or the prompt. Change them: the same ones will be refused again.",
    "missing_parameter": "The provider says that an input is missing. Check the inputs, then make a new generation.",
    "invalid_parameter": "The provider refused an input as invalid. Change it, then make a new generation.",
    "media_fetch_failed": "The provider could not fetch the picture. Retry; if it happens again, upload the picture anew.",
    "execution_failed": "The provider could not make this video. Retry; if it happens again, change the prompt.",
    "task_failed": "The provider could not make this video. Retry; if it happens again, change the prompt.",
    "retries_exhausted": "The provider tried several times and gave up. Retry later.",
    "insufficient_credits": "The provider's account ran out of credits. A studio owner has to top it up; then retry.",
    "provider_internal_error": "The provider had an internal error. Retry later.",
    "provider_unavailable": "The provider was not available. Retry later.",
    "provider_timed_out": "The provider took too long and gave up. Retry later.",
    "cancelled": "The generation was cancelled at the provider, not here. Retry it if you still want the video.",
    "timeout": "The provider took too long and gave up. Retry later.",
    "deleted": "The prediction was deleted at the provider, not here. Retry it if you still want the video.",
    "rejected": "The provider refused the request and made nothing; it cost nothing. Check the inputs, then make a new generation.",
    "picture_missing": "The picture's file is gone from the studio's storage, so nothing was sent and nothing was paid. Upload it again.",
    "key_refused": "The provider refused the studio's account three times. A studio owner has to look at the account; then retry.",
    "result_expired": "The provider never gave a result within the 7 days that it keeps one. Retry it if you still want the video.",
    "never_readable": "The provider made it, but within the 7 days that it keeps one it gave no video that can be read. What it costs "
    "follows the provider's bill: ask the provider to refund it. Retry it if you still want the video.",
    "not_made": "An owner settled that the provider never made it; nothing was paid. Retry it if you still want the video.",
    "no_video": "An owner settled that it ended without a video; it costs what the provider's bill says. Retry it if you still want one.",
    "failed": "The provider says that it failed. Retry; if it happens again, change the inputs.",
}


@dataclass(frozen=True)
class Failure:
    """`code` is ours and stable; `provider_says` is the provider's text, untrusted."""

    code: str
    provider_says: str = ""

    @property
    def sentence(self) -> str:
        return SENTENCES.get(self.code, SENTENCES["failed"])


def of_task(status: str, code: int | None, text: str) -> Failure:
    """The failure that a terminal prediction tells: its `data.code` where that says more than its status."""
    known = PROVIDER_CODES.get(code or 0)
    return Failure(known or (status if status in SENTENCES else "failed"), text)
