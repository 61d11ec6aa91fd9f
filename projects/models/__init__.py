from projects.models.alert import Alert, AlertKind, Notification, NotificationPreference
from projects.models.budget import MAX_THRESHOLD, Budget, BudgetPeriod, Enforcement, Period, TopUp
from projects.models.idempotency import IdempotencyKey
from projects.models.ledger import EntryKind, LedgerIsAppendOnly, SpendEntry, SpendLine
from projects.models.project import Invitation, Membership, Project, Role, Studio
from projects.models.source_image import SourceImage
from projects.models.versioned import Change, Versioned, together

__all__ = [
    "MAX_THRESHOLD",
    "Alert",
    "AlertKind",
    "Budget",
    "BudgetPeriod",
    "Change",
    "Enforcement",
    "EntryKind",
    "IdempotencyKey",
    "Invitation",
    "LedgerIsAppendOnly",
    "Membership",
    "Notification",
    "NotificationPreference",
    "Period",
    "Project",
    "Role",
    "SourceImage",
    "SpendEntry",
    "SpendLine",
    "Studio",
    "TopUp",
    "Versioned",
    "together",
]
