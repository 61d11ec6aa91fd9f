from generations.models.approval import Approval
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
from generations.models.lane import Lane, PausedEndpoint
from generations.models.reconciliation import Reconciliation
from generations.models.video import Video

__all__ = [
    "CANCELLABLE",
    "RETRYABLE",
    "Approval",
    "Element",
    "Exchange",
    "Generation",
    "GenerationElement",
    "GenerationEvent",
    "Lane",
    "PausedEndpoint",
    "Reconciliation",
    "Status",
    "Video",
]
