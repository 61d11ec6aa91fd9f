"""An answer of the provider that says neither that a video is made, nor where, nor that it failed, nor that it is being made: in words."""

from generations.wavespeed.errors import NotUnderstood
from generations.wavespeed.replies import COMPLETED, Prediction

CODE = "not_understood"
WHAT_TO_DO = (
    "Its answer is kept below. Say which address the video is at, or that it ended without a video: then its money follows the provider's "
    "bill. Until then it is asked for again."
)


def result(prediction: Prediction) -> str:
    if prediction.status == COMPLETED:
        told = f" It says: {prediction.error}" if prediction.error else ""
        return f"The provider says that it has finished, and its answer names no video.{told}"
    if prediction.status:
        return f"The provider says “{prediction.status}”, which is no word that the studio knows."
    return "The provider's answer does not say how far it is."


def answer(error: NotUnderstood) -> str:
    return f"The provider answered, and not in a form that the studio knows. {error}"
