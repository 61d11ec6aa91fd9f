"""What an answer means for the caller. The table for a submit is the promise never to pay twice."""

from generations.wavespeed.errors import (
    Ambiguous,
    InsufficientCredits,
    KeyRefused,
    NotFound,
    NotUnderstood,
    Rejected,
    TooMany,
    TryLater,
    Unavailable,
    Unreadable,
    WaveSpeedError,
)
from generations.wavespeed.redaction import Redactor
from generations.wavespeed.replies import OK, Answer, Prediction, as_dict, read_prediction
from generations.wavespeed.transport import Failure

# Of a submit: surely not created. Every other status may have created, and billed.
NOT_CREATED: dict[int, type[WaveSpeedError]] = {
    400: Rejected,
    401: KeyRefused,
    403: KeyRefused,
    404: Rejected,
    413: Rejected,
    422: Rejected,
    429: TryLater,
}
# Of a call that costs nothing.
REFUSED: dict[int, type[WaveSpeedError]] = NOT_CREATED | {
    404: NotFound,
    408: Unavailable,
    410: NotFound,
    425: Unavailable,
    429: TooMany,
}
INSUFFICIENT_CREDITS = 1407


def submitted(answer: Answer, redactor: Redactor) -> Prediction:
    """The prediction that a submit created; raises NotCreated's or Ambiguous. A readable id always means created."""
    prediction = read_prediction(answer.data, redactor, answer.reply.exchange)
    if prediction is None:
        raise _submit_error(answer)
    return prediction


def _submit_error(answer: Answer) -> WaveSpeedError:
    failure = answer.reply.failure
    if failure is Failure.NOT_CONNECTED:
        return _error(TryLater, f"Nothing was sent: {failure}.", answer)
    if failure:
        return _error(Ambiguous, f"The request may have been accepted, and billed: {failure}.", answer)
    kind = NOT_CREATED.get(answer.status or 0, Ambiguous)
    if kind is Ambiguous or as_dict(answer.data).get("id"):
        return _error(Ambiguous, f"The request may have been accepted, and billed: {_told(answer)}.", answer)
    if kind is not TryLater and _says_no_credits(answer):
        kind = InsufficientCredits
    return _error(kind, f"The request was not accepted: {_told(answer)}.", answer)


def read_error(answer: Answer) -> WaveSpeedError | None:
    """Why a call that costs nothing brought nothing; None if it brought an envelope that says 200."""
    failure = answer.reply.failure
    if failure is Failure.TOO_LARGE:
        return _error(Unreadable, f"{failure.capitalize()}.", answer)
    if failure:
        return _error(Unavailable, f"{failure.capitalize()}.", answer)
    status = answer.status
    if status == OK:
        return None
    if status is None or not 400 <= status < 600:
        unread = NotUnderstood if answer.document and answer.reply.status == OK else Unreadable
        return _error(unread, f"The answer can't be understood: {_told(answer)}.", answer)
    kind = Unavailable if status >= 500 else REFUSED.get(status, Rejected)
    if kind in (Rejected, KeyRefused) and _says_no_credits(answer):
        kind = InsufficientCredits
    return _error(kind, f"The call was not answered: {_told(answer)}.", answer)


def unreadable(answer: Answer, why: str) -> Unreadable:
    return NotUnderstood(f"The answer can't be understood: {why}.", exchange=answer.reply.exchange)


def _error(kind: type[WaveSpeedError], sentence: str, answer: Answer) -> WaveSpeedError:
    return kind(
        sentence,
        exchange=answer.reply.exchange,
        provider_code=answer.provider_code,
        message=answer.message,
        retry_after=answer.reply.retry_after,
    )


def _told(answer: Answer) -> str:
    if answer.provider_code in (None, answer.reply.status):
        return f"HTTP {answer.reply.status}"
    return f"HTTP {answer.reply.status}, code {answer.provider_code}"


def _says_no_credits(answer: Answer) -> bool:
    return (
        INSUFFICIENT_CREDITS in (answer.code, answer.error_code)
        or "insufficient credit" in answer.message.lower()
        or "insufficient balance" in answer.message.lower()
    )
