"""A reconciliation that a person starts."""

from django.contrib.auth.models import User

from generations import reconcile, tasks
from generations.models import Reconciliation
from projects import permissions


def reconcile_now(*, by: User) -> Reconciliation:
    """Begins a reconciliation that only looks, and books late refunds and late deducts; a worker runs it."""
    permissions.require_studio_owner(by, "reconcile")
    reconciliation = reconcile.begin(by=by)
    tasks.send_on_commit(tasks.reconcile, str(reconciliation.pk))
    return reconciliation
