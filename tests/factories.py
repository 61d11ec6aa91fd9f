"""People, projects and pictures for tests, made as the product makes them."""

import io
import itertools
import uuid

import factory
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from PIL import Image

from projects.models import Budget, Enforcement, Membership, Period, Project, Role, SourceImage, SpendEntry
from projects.money import budgets, spend

_numbers = itertools.count(1)


class UserFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = User
        skip_postgeneration_save = True

    username = factory.Sequence(lambda n: f"user{n}")
    email = factory.LazyAttribute(lambda user: f"{user.username}@example.com")


class ProjectFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Project

    name = factory.Sequence(lambda n: f"Campaign {n}")
    created_by = factory.SubFactory(UserFactory, is_superuser=True, is_staff=True)


def member(project: Project, role: Role = Role.EDITOR, **user: object) -> User:
    """A new user with `role` in the project."""
    person = UserFactory(is_staff=True, **user)
    Membership.objects.create(project=project, user=person, role=role)
    return person


def budget(project: Project | None, limit: int, *, user: User | None = None, **fields: object) -> Budget:
    """A hard total budget of `limit` micro-dollars, set by a studio owner."""
    values = {"period": Period.TOTAL, "enforcement": Enforcement.HARD} | fields
    owner = project.created_by if project else UserFactory(is_superuser=True)
    return budgets.create(project=project, user=user, limit=limit, by=owner, **values)


def reservation(project: Project, user: User | None = None, amount: int = 2_100_000, *, key: str = "") -> SpendEntry:
    """`amount` held for something new."""
    reference = uuid.uuid4()
    return spend.reserve(
        project=project,
        user=user or project.created_by,
        reference=reference,
        endpoint="kwaivgi/kling-video-o3-4k/image-to-video",
        amount=amount,
        key=key or f"reserve:{reference}",
        by=None,
    )


def jpeg(width: int = 640, height: int = 360, colour: tuple[int, int, int] = (200, 90, 40)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(out, "JPEG")
    return out.getvalue()


def source_image(project: Project, by: User | None = None, *, width: int = 640, height: int = 360) -> SourceImage:
    """A stored picture that differs from every other one."""
    number = next(_numbers)
    content = jpeg(width, height, (number % 256, number // 256 % 256, 99))
    image = SourceImage(
        project=project,
        title=f"Picture {number}",
        content_type="image/jpeg",
        width=width,
        height=height,
        bytes=len(content),
        sha256=f"{number:064x}",
        created_by=by or project.created_by,
    )
    for field in (image.file, image.original, image.thumbnail):
        field.save(f"{field.field.name}.jpg", ContentFile(content), save=False)
    image.save()
    return image
