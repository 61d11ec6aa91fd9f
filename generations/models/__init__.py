from generations.models.element import Element
from generations.models.generation import (
    CANCELLABLE,
    RETRYABLE,
    Exchange,
    Generation,
    GenerationElement,
    GenerationEvent,
    Status,
)
from generations.models.lane import Lane
from generations.models.video import Video

__all__ = [
    "CANCELLABLE",
    "RETRYABLE",
    "Element",
    "Exchange",
    "Generation",
    "GenerationElement",
    "GenerationEvent",
    "Lane",
    "Status",
    "Video",
]
