import hashlib
import tempfile
from argparse import ArgumentParser
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse
from PIL import Image

from generations.catalog.endpoint import InvalidInputs
from generations.models import Generation, Status, Video
from generations.services import drafts, orders, quotes
from kling_studio.management import progress
from kling_studio.management.commands.generate import DEFAULT_ENDPOINT, add_image, location, what_now, whole_number
from kling_studio.processes import embedded
from kling_studio.processes.startup import require_no_check_errors
from projects.models import Enforcement, Period, Project
from projects.money import budgets, shown, spend, to_dollars, to_micros
from projects.permissions import STUDIO_OWNERS

PHOTO = settings.BASE_DIR / "kling_studio" / "photos" / "coffee.png"
PROMPT = "Steam rises from the cup while the camera glides closer; warm morning light, shallow depth of field."
BUDGET = Decimal("10.00")
LONG_SIDE = 3840


class Command(BaseCommand):
    requires_system_checks: list[str] = []  # the errors alone, once the database is there
    help = "Does the main job once: a photograph becomes a stored 4K video, and its cost stands on a project's books."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--image", type=Path, help="your picture; without it a photograph that comes with the studio"
        )
        parser.add_argument("--prompt", default=PROMPT)
        parser.add_argument("--duration", default="5", help="whole seconds, 3 to 15")

    def handle(self, **options: Any) -> None:
        call_command("migrate", verbosity=0)
        require_no_check_errors(databases=["default"])
        user = demo_user()
        project = new_project(user)
        self.stdout.write(f"Project “{project}” with a budget of {shown(to_micros(BUDGET))}.")
        with embedded.running():
            generation = self._generate(project, user, options)
            progress.follow(generation, timeout=900)
        if generation.status != Status.COMPLETED:
            raise CommandError(what_now(generation))
        video = generation.videos.get()
        self._tell(generation, video)
        if wrong := check(generation, video):
            raise CommandError("This is not right: " + "; ".join(wrong))

    def _generate(self, project: Project, user: User, options: dict[str, Any]) -> Generation:
        with tempfile.TemporaryDirectory() as folder:
            path = options["image"] or cropped(PHOTO, Path(folder))
            image = add_image(project, path, user)
        inputs = {
            "image": str(image),
            "prompt": options["prompt"],
            "duration": whole_number(options["duration"]),
            "sound": True,
        }
        try:
            quote = quotes.quote(project, endpoint=DEFAULT_ENDPOINT, inputs=inputs, by=user)
            self.stdout.write(
                f"Imported {path.name}. The quote for {options['duration']} seconds with sound: {shown(quote.amount)}."
            )
            draft = drafts.create(project, endpoint=DEFAULT_ENDPOINT, inputs=inputs, by=user)
            return orders.queue(draft, by=user)
        except (InvalidInputs, spend.SpendRefused) as error:
            raise CommandError(str(error)) from error

    def _tell(self, generation: Generation, video: Video) -> None:
        left = budgets.figures(budgets.of_project(generation.project).filter(project=generation.project))[0].free
        page = reverse("admin:generations_generation_change", args=[generation.pk])
        self.stdout.write(
            f"\n{location(video.file.name or '')}\n"
            f"  {video.width}×{video.height}, {video.duration} seconds, {'with' if video.has_audio else 'without'} sound, "
            f"{video.bytes:,} bytes\n"
            f"  SHA-256 {video.sha256}\n"
            f"  charged {shown(generation.charged or 0)}; {shown(left)} of the budget is left\n\n"
            f"See it in the studio: run script/server, then open {settings.PUBLIC_URL}{page}"
        )


def demo_user() -> User:
    """A studio owner nobody can log in as."""
    user, created = User.objects.get_or_create(username="demo", defaults={"is_staff": True})
    if created:
        user.set_unusable_password()
        user.save()
    user.groups.add(Group.objects.get_or_create(name=STUDIO_OWNERS)[0])
    return user


def new_project(user: User) -> Project:
    number = Project.objects.filter(name__startswith="Demo").count() + 1
    while Project.objects.filter(name=f"Demo {number}").exists():
        number += 1
    project = Project.objects.create(name=f"Demo {number}", description="Made by script/demo.", created_by=user)
    budgets.create(
        project=project, user=None, period=Period.TOTAL, enforcement=Enforcement.HARD, limit=to_micros(BUDGET), by=user
    )
    return project


def cropped(photo: Path, folder: Path) -> Path:
    """The middle of the photograph at exactly 16:9, so that its video is 3840 × 2160."""
    with Image.open(photo) as image:
        step = min(image.width // 16, image.height // 9)
        width, height = 16 * step, 9 * step
        left, top = (image.width - width) // 2, (image.height - height) // 2
        path = folder / photo.name
        image.crop((left, top, left + width, top + height)).save(path)
    return path


def check(generation: Generation, video: Video) -> list[str]:
    """What the demo claims and is not true."""
    with video.file.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    image = generation.image
    assert image
    assert generation.quote is not None
    claims = {
        f"the long side is {LONG_SIDE}": max(video.width or 0, video.height or 0) == LONG_SIDE,
        "16:9 is 3840×2160": image.width * 9 != image.height * 16 or (video.width, video.height) == (LONG_SIDE, 2160),
        "it lasts as long as asked": video.duration is not None
        and abs(video.duration - generation.duration) < Decimal("0.1"),
        "it has sound": video.has_audio is True,
        "the file has its checksum": sha256 == video.sha256,
        "the charge is the quote": generation.charged == generation.quote == spend.charged(generation.pk),
        "the price is $0.42 a second": to_dollars(generation.quote) == Decimal("0.42") * generation.duration,
    }
    return [claim for claim, holds in claims.items() if not holds]
