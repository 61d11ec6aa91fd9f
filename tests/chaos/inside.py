"""What a run asks of the studio from inside, each in a process of its own in the studio's environment; answers in JSON.

python -m tests.chaos.inside prepare | settle | books     (settle reads generation ids from standard input, one a line)
"""

import json
import sys
from typing import Any

import django

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db.models import Sum  # noqa: E402
from django.utils import timezone  # noqa: E402
from knox.models import AuthToken  # noqa: E402

from generations.models import (  # noqa: E402
    Generation,
    UnassignedPrediction,
    Video,
)
from generations.services import decisions  # noqa: E402
from projects.models import (  # noqa: E402
    BudgetPeriod,
    Project,
    SpendEntry,
)
from projects.money import books  # noqa: E402
from tests import factories  # noqa: E402

GENEROUS, TIGHT_EACH = 10**12, 1_260_000
OWNER = "olive"


def prepare(tight: int) -> dict[str, Any]:
    """A project that can buy anything, and one whose hard budget is for `tight` videos of three seconds."""
    call_command("migrate", verbosity=0)
    owner = User.objects.create_superuser(OWNER)
    projects, images = {}, {}
    for name, limit in (("generous", GENEROUS), ("tight", tight * TIGHT_EACH)):
        project = Project.objects.create(name=name.capitalize(), created_by=owner)
        factories.budget(project, limit)
        projects[name] = str(project.pk)
        images[name] = [str(factories.source_image(project, owner).pk) for _ in range(3)]
    return {"projects": projects, "images": images, "token": AuthToken.objects.create(user=owner)[1]}


def settle(pks: list[str]) -> dict[str, Any]:
    """Says of each “it was not made”, as an owner who has looked at the provider's own pages; what the studio refuses, by id."""
    owner = User.objects.get(username=OWNER)
    settled, refused = [], {}
    for generation in Generation.objects.filter(pk__in=pks):
        try:
            decisions.settle_not_made(generation, by=owner, reason="The provider's book has no such task.")
        except Exception as error:
            refused[str(generation.pk)] = f"{type(error).__name__}: {error}"
        else:
            settled.append(str(generation.pk))
    return {"settled": settled, "refused": refused}


def all_books() -> dict[str, Any]:
    """What the studio says at the end: rows, ledger, videos, balances, and what still waits."""
    return {
        "generations": [
            _generation(each) for each in Generation.objects.order_by("created_at").prefetch_related("events")
        ],
        "ledger": [
            {"generation": str(each["reference"]), "reserved": each["reserved"], "spent": each["spent"]}
            for each in SpendEntry.objects.order_by()
            .values("reference")
            .annotate(reserved=Sum("reserved_delta"), spent=Sum("spent_delta"))
        ],
        "videos": [_video(each) for each in Video.objects.select_related("generation", "unassigned")],
        "periods": [
            {"budget": str(each.budget), "limit": each.budget.limit, "spent": each.spent, "reserved": each.reserved}
            for each in BudgetPeriod.objects.select_related("budget__project", "budget__user")
        ],
        "wrong_books": [
            *(f"balance: {each}" for each in books.wrong_balances()),
            *(f"line: {each}" for each in books.wrong_lines()),
            *(f"entry: {each}" for each in books.entries_with_wrong_lines()),
        ],
        "due": _due(),
    }


def _generation(each: Generation) -> dict[str, Any]:
    return {
        "id": str(each.pk),
        "status": each.status,
        "prediction_id": each.prediction_id,
        "charged": each.charged,
        "error": each.error_code,
        "prompt": each.prompt,
        "settles": each.settle_at is not None,
        "history": [f"{event.at:%H:%M:%S.%f} {event.new_status}: {event.reason}" for event in each.events.all()],
    }


def _video(each: Video) -> dict[str, Any]:
    owner = each.generation or each.unassigned
    assert owner is not None
    return {"prediction_id": owner.prediction_id, "file": each.file.name, "sha256": each.sha256}


def _due() -> dict[str, int]:
    """Rows that somebody should have looked at by now."""
    now = timezone.now()
    return {
        "generations": Generation.objects.filter(next_action_at__lte=now).count(),
        "unassigned predictions": UnassignedPrediction.objects.filter(next_action_at__lte=now).count(),
        "settlements": Generation.objects.filter(settle_at__lte=now).count(),
    }


def main(arguments: list[str]) -> None:
    match arguments:
        case ["prepare", tight]:
            answer = prepare(int(tight))
        case ["settle"]:
            answer = settle(sys.stdin.read().split())
        case ["books"]:
            answer = all_books()
        case _:
            raise SystemExit(__doc__)
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
