"""A studio with one of everything in one project, and everybody who may knock at its door.

Each text of the project holds `MARK`: an answer to somebody who is no member of it must not.
"""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import Group, User
from django.contrib.auth.tokens import default_token_generator
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client
from django.utils import timezone
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from knox.models import AuthToken
from rest_framework.test import APIClient

from generations.models import (
    Approval,
    Element,
    Exchange,
    Generation,
    GenerationEvent,
    Lane,
    Process,
    Reconciliation,
    RefusedOutput,
    Status,
    UnassignedPrediction,
    Video,
)
from generations.services import drafts, orders
from projects import permissions
from projects.models import Alert, AlertKind, Membership, Notification, Project, Role, Studio
from projects.money import budgets
from projects.people import members
from tests import factories
from tests.pipeline import ENDPOINT, list_and_bill_were_read

MARK = "zebrafish"
CONTENT = b"0123456789" * 100

ANONYMOUS, DEACTIVATED = "anonymous", "deactivated user"
STRANGER, OUTSIDER, SWITCHED_OFF = "stranger", "owner of another project", "switched-off member"
VIEWER, EDITOR, APPROVER, OWNER = "viewer", "editor", "approver", "project owner"
STUDIO_OWNER = "studio owner"
ROLES = [ANONYMOUS, DEACTIVATED, STRANGER, OUTSIDER, SWITCHED_OFF, VIEWER, EDITOR, APPROVER, OWNER, STUDIO_OWNER]


@dataclass
class World:
    project: Project
    other: Project
    people: dict[str, User]
    rows: dict[str, Any] = field(default_factory=dict)
    """By the label of the model, such as `projects.budget`; what else is needed under names of its own."""

    def admin(self, role: str, **options: Any) -> Client:
        """A browser in which they have logged in, before they were deactivated."""
        client = Client(raise_request_exception=False, **options)
        if role != ANONYMOUS:
            client.force_login(self.people[role], "django.contrib.auth.backends.ModelBackend")
        return client

    def api(self, role: str) -> APIClient:
        client = APIClient(raise_request_exception=False)
        if role != ANONYMOUS:
            _, token = AuthToken.objects.create(self.people[role])
            client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
        return client


def build(text: Callable[[str], str] = lambda name: f"{name} {MARK}") -> World:
    """`text` gives the words that people and the provider put into each place."""
    olive = factories.UserFactory(username="olive", is_staff=True)
    olive.groups.add(Group.objects.get_or_create(name=permissions.STUDIO_OWNERS)[0])
    project = factories.ProjectFactory(
        name=text("Project")[:120], description=text("Description"), created_by=olive, approval_above=2_000_000
    )
    other = factories.ProjectFactory(name="Elsewhere", created_by=olive)
    world = World(project, other, _people(project, other, olive))
    factories.budget(other, 100_000_000)
    _add_money(world)
    _add_pictures(world, text)
    _add_generations(world, text)
    _add_rest(world, text)
    return world


def _people(project: Project, other: Project, olive: User) -> dict[str, User]:
    people = {
        STUDIO_OWNER: olive,
        STRANGER: factories.UserFactory(username="stan", is_staff=True),
        OUTSIDER: factories.member(other, Role.OWNER, username="otto"),
        SWITCHED_OFF: factories.member(project, Role.OWNER, username="sven"),
        DEACTIVATED: factories.member(project, Role.OWNER, username="dora"),
        VIEWER: factories.member(project, Role.VIEWER, username="vic"),
        EDITOR: factories.member(project, Role.EDITOR, username="eddie"),
        APPROVER: factories.member(project, Role.APPROVER, username="anna"),
        OWNER: factories.member(project, Role.OWNER, username="oscar"),
    }
    Membership.objects.filter(user=people[SWITCHED_OFF]).update(is_active=False)
    User.objects.filter(username="dora").update(is_active=False)
    return people


def _add_money(world: World) -> None:
    budget = factories.budget(world.project, 100_000_000)
    studio = factories.budget(None, 900_000_000)
    tomorrow = timezone.now() + timedelta(days=1)
    olive = world.people[STUDIO_OWNER]
    for name, row in (("projects.budget", budget), ("studio budget", studio)):
        world.rows[name] = row
        world.rows[f"top-up of {name}"] = budgets.top_up(
            row,
            amount=1_000_000,
            starts_at=None,
            ends_at=tomorrow,
            reason=f"Fair {MARK if row.project_id else 'for all'}",
            by=olive,
        )


def _add_pictures(world: World, text: Callable[[str], str]) -> None:
    image = factories.source_image(world.project, world.people[EDITOR])
    image.title, image.tags, image.notes = text("Picture")[:200], [text("tag")[:40]], [text("Note")]
    image.save()
    world.rows["projects.sourceimage"] = image
    world.rows["other image"] = factories.source_image(world.other, world.people[OUTSIDER])
    world.rows["generations.element"] = Element.objects.create(
        project=world.project,
        name=text("El")[:20],
        description=text("Element")[:100],
        element_id="4711",
        created_by=world.people[EDITOR],
    )


def _add_generations(world: World, text: Callable[[str], str]) -> None:
    draft = generation(world, text("Draft"))
    asked = generation(world, text("Asked"), duration=8)
    orders.queue(asked, by=world.people[EDITOR])
    failed = generation(world, text("Failed"), Status.FAILED, error_code="task_failed", error_message=text("Provider"))
    done = generation(
        world,
        text("Done"),
        Status.COMPLETED,
        prediction_id="prediction-done",
        charged=2_100_000,
        result_ignored_at=timezone.now(),
    )
    unconfirmed = generation(
        world,
        text("Unconfirmed"),
        Status.UNCONFIRMED,
        submitted_at=timezone.now() - timedelta(hours=1),
        quote=1_260_000,
    )
    list_and_bill_were_read(unconfirmed)
    puzzling = generation(
        world,
        text("Puzzling"),
        Status.PROCESSING,
        prediction_id="prediction-puzzling",
        submitted_at=timezone.now(),
        needs_look_since=timezone.now(),
        needs_look_why=text("Why"),
        error_message=text("Trouble"),
    )
    storing = generation(world, text("Storing"), Status.STORING, prediction_id="prediction-storing", charged=1_260_000)
    came = RefusedOutput(generation=storing, position=0, why=text("Why"), bytes=len(CONTENT), sha256="b" * 64)
    came.content_type, came.beginning = text("Type")[:100], text("Beginning")
    came.file.save(f"videos/{uuid.uuid4()}.bin", ContentFile(CONTENT))
    for row in (draft, failed, done, unconfirmed, puzzling, storing):
        Exchange.objects.create(
            generation=row, kind=Exchange.Kind.RESULT, summary=text("Summary")[:300], detail={"message": text("Detail")}
        )
        GenerationEvent.objects.create(generation=row, new_status=row.status, reason=text("Reason")[:500])
    video = Video(
        generation=done, bytes=len(CONTENT), sha256="a" * 64, width=3840, height=2160, codec=text("h264")[:20]
    )
    video.probe_error = text("Probe")[:300]
    video.file.save(f"videos/{uuid.uuid4()}.mp4", ContentFile(CONTENT), save=False)
    video.poster.save(f"videos/{uuid.uuid4()}.jpg", ContentFile(factories.jpeg()), save=False)
    video.save()
    world.rows |= {
        "generations.generation": draft,
        "asked": asked,
        "failed": failed,
        "done": done,
        "unconfirmed": unconfirmed,
        "puzzling": puzzling,
        "storing": storing,
        "generations.approval": Approval.objects.get(),
        "generations.video": video,
        "projects.spendentry": factories.reservation(world.project, world.people[EDITOR]),
    }


def generation(world: World, prompt: str, status: Status = Status.DRAFT, **changes: Any) -> Generation:
    duration = changes.pop("duration", 3)
    inputs = {"image": str(world.rows["projects.sourceimage"].pk), "prompt": prompt[:2000], "duration": duration}
    row = drafts.create(
        world.project,
        endpoint=ENDPOINT,
        inputs=inputs,
        tags=[" ".join(prompt[:40].split()) or "tag"],
        by=world.people[EDITOR],
    )
    if status != Status.DRAFT:
        Generation.objects.filter(pk=row.pk).update(status=status, completed_at=timezone.now(), **changes)
        row.refresh_from_db()
    return row


def _add_rest(world: World, text: Callable[[str], str]) -> None:
    olive = world.people[STUDIO_OWNER]
    # Whose own things nobody of the roles may see.
    uma = factories.member(world.project, Role.VIEWER, username="uma")
    invitation, link = members.invite(world.project, email="nina@example.com", role=Role.VIEWER, by=olive)
    alert = Alert.objects.create(
        kind=AlertKind.REFUSED,
        key=str(uuid.uuid4()),
        project=world.project,
        title=text("Alert")[:200],
        text=text("Alert text"),
        links=[[text("Link"), "/admin/"]],
    )
    token, _ = AuthToken.objects.create(uma)
    unassigned = UnassignedPrediction.objects.create(
        prediction_id="prediction-nobody-s",
        endpoint=ENDPOINT,
        provider_status=text("paused")[:40],
        inputs={"prompt": text("Unassigned")},
        error_message=text("Unassigned error"),
        found_by=UnassignedPrediction.FoundBy.LIST,
    )
    unassigned.candidate_for.add(world.rows["unconfirmed"])
    Lane.objects.update_or_create(name=Lane.WAVESPEED)
    finding = {
        "kind": "orphan",
        "generation": "",
        "what": text("Orphan"),
        "ours": 0,
        "theirs": 2_100_000,
        "difference": 2_100_000,
        "held": 0,
        "details": {"model": ENDPOINT, "status": text("billed"), "prompt": text("Billed")},
    }
    now = timezone.now()
    world.rows |= {
        "uma": uma,
        "projects.project": world.project,
        "generations.process": Process.objects.create(kind=Process.Kind.WEB, host="studio-1", pid=4711),
        "projects.membership": Membership.objects.get(project=world.project, user=uma),
        "projects.invitation": invitation,
        "join token": link.rstrip("/").rpartition("/")[2],
        "projects.notification": Notification.objects.create(alert=alert, user=uma),
        "projects.studio": Studio.current(),
        "generations.lane": Lane.objects.get(),
        "generations.reconciliation": Reconciliation.objects.create(
            since=now - timedelta(days=1),
            until=now,
            finished_at=now,
            differences=1,
            report={"compared": 1, "ours": 0, "theirs": 2_100_000, "findings": [finding]},
        ),
        "generations.unassignedprediction": unassigned,
        "auth.user": uma,
        "token": token.digest[:32],
        "media": default_storage.url(world.rows["generations.video"].file.name),
        "reset": (urlsafe_base64_encode(force_bytes(uma.pk)), default_token_generator.make_token(uma)),
    }


def writes(queries: Iterable[dict[str, str]]) -> list[str]:
    """What was changed in the database; sessions and the memory of answers to keys are nobody's data."""
    changing = ("INSERT", "UPDATE", "DELETE")
    aside = ("django_session", "axes_", "idempotency", "knox_authtoken")
    found = [query["sql"] for query in queries if query["sql"].lstrip().upper().startswith(changing)]
    return [sql for sql in found if not any(name in sql for name in aside)]
