"""What downloads are called: forty products times three takes lie in one folder, and each says what it is."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from generations.models import Generation, Status, Video
from generations.services import drafts, orders
from generations.storage import naming
from projects.models import Project, Role, SourceImage
from tests import factories
from tests.pipeline import ENDPOINT

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    project = factories.ProjectFactory(name="Autumn launch")
    factories.budget(project, 1_000_000_000)
    return project


@pytest.fixture
def editor(project: Project) -> User:
    return factories.member(project, Role.EDITOR)


def picture(project: Project, title: str) -> SourceImage:
    image = factories.source_image(project)
    SourceImage.objects.filter(pk=image.pk).update(title=title)
    return image


@pytest.fixture
def make(editor: User) -> Callable[..., Video]:
    """A stored video of what was queued."""

    def make(image: SourceImage, prompt: str = "Steam rises", **inputs: Any) -> Video:
        values = {"image": str(image.pk), "prompt": prompt, "duration": 5, **inputs}
        draft = drafts.create(image.project, endpoint=ENDPOINT, inputs=values, by=editor)
        made = orders.queue(draft, by=editor, confirm=True)
        Generation.objects.filter(pk=made.pk).update(status=Status.COMPLETED)
        made = Generation.objects.select_related("project", "image").get(pk=made.pk)
        return Video.objects.create(generation=made, file="v.mp4", bytes=1, sha256="0" * 64, duration=Decimal("5.042"))

    return make


def test_each_take_of_each_picture_has_a_name_of_its_own(project: Project, make: Callable[..., Video]) -> None:
    cup, beans = picture(project, "coffee.png"), picture(project, "SKU-1005_front.jpg")
    videos = [make(image) for image in (cup, beans, beans, beans)] + [make(beans, "Beans fall")]

    ids = [video.pk.hex[:4] for video in videos]
    assert [naming.download_name(video) for video in videos] == [
        f"autumn-launch_coffee_take1_5s_{ids[0]}.mp4",
        f"autumn-launch_SKU-1005_front_take1_5s_{ids[1]}.mp4",
        f"autumn-launch_SKU-1005_front_take2_5s_{ids[2]}.mp4",
        f"autumn-launch_SKU-1005_front_take3_5s_{ids[3]}.mp4",
        f"autumn-launch_SKU-1005_front_take1_5s_{ids[4]}.mp4",
    ]


def test_takes_that_were_queued_in_one_moment_are_numbered_apart(project: Project, make: Callable[..., Video]) -> None:
    cup = picture(project, "Cup")
    videos = [make(cup) for _ in range(3)]
    Generation.objects.update(queued_at=timezone.now())

    takes = [naming.take(Generation.objects.get(pk=video.generation_id)) for video in videos]
    assert sorted(takes) == [1, 2, 3]


def test_a_draft_of_the_same_changes_no_number(project: Project, editor: User, make: Callable[..., Video]) -> None:
    cup = picture(project, "Cup")
    inputs = {"image": str(cup.pk), "prompt": "Steam rises"}
    draft = drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=editor)
    Generation.objects.filter(pk=draft.pk).update(created_at=timezone.now() - timedelta(days=1))

    assert "_take1_" in naming.download_name(make(cup))


@pytest.mark.parametrize(
    ("title", "named"),
    [
        ("Größe 40 – schwarz.JPG", "Größe-40-schwarz"),
        ("Gro\u0308ße", "Größe"),
        ("コーヒー", "コーヒー"),
        ("हिन्दी", "हिन्दी"),
        ("CON", "CON"),
        ('a/b\\c:d*e?f"g<h>i|j', "a-b-c-d-e-f-g-h-i-j"),
        ("../../etc/passwd", "etc-passwd"),
        ("ends with dots...", "ends-with-dots"),
        ("right\u202eto left\u200b", "right-to-left"),
        ("I ❤️ tea", "I-tea"),
        ("v1.2.jpg", "v1-2"),
        ("__front -- _ side__", "front_side"),
    ],
)
def test_a_name_is_one_that_every_file_system_takes(
    project: Project, make: Callable[..., Video], title: str, named: str
) -> None:
    video = make(picture(project, title))
    assert naming.download_name(video) == f"autumn-launch_{named}_take1_5s_{video.pk.hex[:4]}.mp4"


@pytest.mark.parametrize("letter", ["a", "ö", "語", "𝔘"])
def test_a_long_name_ends_in_time_and_keeps_what_tells_it_apart(
    project: Project, make: Callable[..., Video], letter: str
) -> None:
    Project.objects.update(name=letter * 100)
    video = make(picture(project, letter * 200))
    name = naming.download_name(Video.objects.select_related("generation__project").get(pk=video.pk))

    assert len(name.encode()) <= 140
    assert name.endswith(f"_take1_5s_{video.pk.hex[:4]}.mp4")
    assert name.isprintable()


def test_emoji_alone_leave_the_rest(project: Project, make: Callable[..., Video]) -> None:
    Project.objects.update(name="🍂🍂")
    video = make(picture(project, "🍁.png"))
    name = naming.download_name(Video.objects.select_related("generation__project").get(pk=video.pk))
    assert name == f"take1_5s_{video.pk.hex[:4]}.mp4"
