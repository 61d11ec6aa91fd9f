from projects.models.budget import Budget, BudgetPeriod, Enforcement, Period
from projects.models.idempotency import IdempotencyKey
from projects.models.ledger import EntryKind, LedgerIsAppendOnly, SpendEntry, SpendLine
from projects.models.project import Invitation, Membership, Project, Role, Studio
from projects.models.source_image import SourceImage

__all__ = [
    "Budget",
    "BudgetPeriod",
    "Enforcement",
    "EntryKind",
    "IdempotencyKey",
    "Invitation",
    "LedgerIsAppendOnly",
    "Membership",
    "Period",
    "Project",
    "Role",
    "SourceImage",
    "SpendEntry",
    "SpendLine",
    "Studio",
]
