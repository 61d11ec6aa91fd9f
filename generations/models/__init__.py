from generations.models.approval import Approval
from generations.models.element import Element
from generations.models.generation import (
    CANCELLABLE,
    HANDED_OUT,
    NOT_ACCEPTED,
    NOT_ASKED_FOR,
    RETRYABLE,
    RUNNING,
    WAITS_SINCE,
    WATCHED,
    WITHOUT_PREDICTION,
    Exchange,
    Generation,
    GenerationElement,
    GenerationEvent,
    Priority,
    Status,
)
from generations.models.lane import Lane, PauseCause, PausedEndpoint, PausedProject, PauseEvent, ProjectTurn
from generations.models.looks import Look, ProviderCall
from generations.models.process import Process
from generations.models.reconciliation import Reconciliation
from generations.models.unassigned import UnassignedPrediction
from generations.models.video import RefusedOutput, Video

__all__ = [
    "CANCELLABLE",
    "HANDED_OUT",
    "NOT_ACCEPTED",
    "NOT_ASKED_FOR",
    "RETRYABLE",
    "RUNNING",
    "WAITS_SINCE",
    "WATCHED",
    "WITHOUT_PREDICTION",
    "Approval",
    "Element",
    "Exchange",
    "Generation",
    "GenerationElement",
    "GenerationEvent",
    "Lane",
    "Look",
    "PauseCause",
    "PauseEvent",
    "PausedEndpoint",
    "PausedProject",
    "Priority",
    "Process",
    "ProjectTurn",
    "ProviderCall",
    "Reconciliation",
    "RefusedOutput",
    "Status",
    "UnassignedPrediction",
    "Video",
]
