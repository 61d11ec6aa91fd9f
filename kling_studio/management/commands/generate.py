import json
import mimetypes
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.files.storage import default_storage
from django.core.management.base import BaseCommand, CommandError
from django.db.models import Q

from generations import failures
from generations.catalog import endpoint
from generations.models import Generation, Status
from generations.services import drafts, orders, refusals
from generations.services.inputs import is_uuid
from kling_studio.management import progress
from kling_studio.processes import embedded
from kling_studio.processes.startup import require_no_check_errors
from projects import source_images
from projects.images import ImageRefused
from projects.models import Project
from projects.money import shown, to_dollars
from projects.money.spend import SpendRefused

DEFAULT_ENDPOINT = "kwaivgi/kling-video-o3-4k/image-to-video"


class Command(BaseCommand):
    requires_system_checks: list[str] = []  # the errors alone, once the database is there
    help = "Makes one video from a picture and waits for it. Exit status 0: it is stored."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--project", required=True, help="its id or name")
        parser.add_argument("--user", required=True, help="on whose behalf: a username")
        parser.add_argument("--image", required=True, type=Path, help="a picture file")
        parser.add_argument("--prompt", required=True)
        parser.add_argument("--end-image", type=Path, help="a picture file for the last frame")
        parser.add_argument("--duration", default="5", help="whole seconds, 3 to 15")
        parser.add_argument("--sound", action="store_true")
        parser.add_argument("--endpoint", default=DEFAULT_ENDPOINT)
        parser.add_argument("--confirm", action="store_true", help="pay for it even if the same video exists")
        parser.add_argument(
            "--timeout", type=float, default=3600, help="seconds to wait; the video is made all the same"
        )
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, **options: Any) -> None:
        require_no_check_errors(databases=["default"])
        user = find_user(options["user"])
        project = find_project(options["project"])
        with embedded.running():
            generation = self._queue(project, user, options)
            progress.follow(generation, timeout=options["timeout"], out=None if options["json"] else sys.stderr)
        self.stdout.write(json.dumps(report(generation), indent=2) if options["json"] else told(generation))
        if generation.status != Status.COMPLETED:
            raise CommandError(what_now(generation))

    def _queue(self, project: Project, user: User, options: dict[str, Any]) -> Generation:
        try:
            inputs = {
                "image": str(add_image(project, options["image"], user)),
                "prompt": options["prompt"],
                "duration": whole_number(options["duration"]),
                "sound": options["sound"],
            }
            if options["end_image"]:
                inputs["end_image"] = str(add_image(project, options["end_image"], user))
            draft = drafts.create(project, endpoint=options["endpoint"], inputs=inputs, by=user)
            return orders.queue(draft, by=user, confirm=options["confirm"])
        except refusals.NeedsConfirmation as error:
            raise CommandError(f"{error} (--confirm)") from error
        except (ImageRefused, endpoint.InvalidInputs, SpendRefused, refusals.Refused, PermissionDenied) as error:
            raise CommandError(str(error)) from error


def find_user(username: str) -> User:
    try:
        return User.objects.get(username=username, is_active=True)
    except User.DoesNotExist as error:
        raise CommandError(f"There is no active user “{username}”.") from error


def find_project(name: str) -> Project:
    matches = Project.objects.filter(archived_at=None)
    project = matches.filter(Q(name=name)).first() or (matches.filter(pk=name).first() if is_uuid(name) else None)
    if project is None:
        known = ", ".join(matches.values_list("name", flat=True)[:10]) or "none yet"
        raise CommandError(f"There is no project “{name}”. Projects: {known}.")
    return project


def add_image(project: Project, path: Path, user: User) -> Any:
    """The id of the picture in the project."""
    try:
        with path.open("rb") as file:
            image, _ = source_images.add(project, file, filename=path.name, by=user)
    except OSError as error:
        raise CommandError(f"{path} can't be read: {error.strerror}.") from error
    return image.pk


def whole_number(text: str) -> int | str:
    """The number, or the text as it is, which the catalogue then refuses with its own sentence."""
    return int(text) if text.isdecimal() else text


def report(generation: Generation) -> dict[str, Any]:
    videos = [
        {
            "id": str(video.pk),
            "file": video.file.name,
            "width": video.width,
            "height": video.height,
            "duration": str(video.duration),
            "bytes": video.bytes,
            "sha256": video.sha256,
            "has_audio": video.has_audio,
            "content_type": mimetypes.guess_type(video.file.name or "")[0],
        }
        for video in generation.videos.all()
    ]
    return {
        "id": str(generation.pk),
        "status": generation.status,
        "prediction_id": generation.prediction_id,
        "quote": str(to_dollars(generation.quote or 0)),
        "charged": None if generation.charged is None else str(to_dollars(generation.charged)),
        "videos": videos,
    }


def told(generation: Generation) -> str:
    lines = [
        f"{location(video.file.name or '')}\n"
        f"  {video.width}×{video.height}, {video.duration} s, {'sound' if video.has_audio else 'no sound'}, {video.bytes:,} bytes\n"
        f"  SHA-256 {video.sha256}"
        for video in generation.videos.all()
    ]
    return "\n".join([*lines, f"{generation.get_status_display()}; charged {shown(generation.charged or 0)}."])


def location(name: str) -> str:
    """The path on this machine, or the name in a storage that has no paths."""
    try:
        return default_storage.path(name)
    except NotImplementedError:
        return name


def what_now(generation: Generation) -> str:
    if generation.status == Status.FAILED:
        failure = failures.Failure(generation.error_code, generation.error_message)
        return f"It failed: {failure.sentence} {failure.provider_says}".strip()
    if generation.status == Status.UNCONFIRMED:
        return (
            "Nobody knows whether the provider accepted it. Its money stays held, and it is never sent again by itself."
        )
    if generation.status == Status.AWAITING_APPROVAL:
        return (
            f"It costs {shown(generation.quote or 0)}, more than {generation.project} lets people spend alone: somebody else has to "
            "approve it. Nothing is held."
        )
    return f"It is still {generation.get_status_display().lower()}; it goes on when the studio runs (script/server)."
