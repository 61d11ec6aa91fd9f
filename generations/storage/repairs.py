"""Puts back what the storage lost: a video from a spare copy or from the provider, a poster, a picture made anew from its original."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from generations import provider
from generations.models import Video
from generations.storage import inventory, storing, temporary
from generations.storage import video as video_file
from generations.storage.storing import StoreFailed
from generations.wavespeed import errors
from projects import images
from projects.models import SourceImage
from projects.models.source_image import stored_name

MEASURED = ("bytes", "sha256", "width", "height", "duration", "fps", "codec", "has_audio", "probe_error", "probe_note")


class NotRepaired(Exception):
    """Why it could not be put back, in a sentence for people."""


@contextmanager
def _written() -> Iterator[None]:
    """Whatever the storage's library raises in the block, nothing was put back."""
    try:
        yield
    except NotRepaired:
        raise
    except Exception as error:
        raise NotRepaired(f"The storage did not do its part: {storing.explained(error)}.") from error


def video(row: Video, *, spares: Sequence[str] = ()) -> str:
    """Puts the file back, from one of the `spares` (stored files of the same request) or the provider's; what was done."""
    spare = next((name for name in spares if is_copy(row, name)), None)
    if spare:
        if not Video.objects.filter(pk=row.pk, file=row.file.name, purged_at=None).update(file=spare):
            raise NotRepaired("It was changed meanwhile.")
        return "A copy of it was in the storage; that is its file now."
    fetched = _fetched(row)
    _take(row, fetched)
    if fetched.sha256 != row.sha256:
        return (
            "Fetched again from the provider, whose file is another one by now: its new size and checksum were noted."
        )
    return "Fetched again from the provider, the same to the last byte."


def is_copy(row: Video, name: str) -> bool:
    """Whether a stored file is what the row says, to the last byte."""
    return inventory.size(name) == row.bytes and inventory.sha256(name) == row.sha256


def _fetched(row: Video) -> Video:
    """The video as a fresh, stored, unsaved one. Raises `NotRepaired`."""
    asked = row.generation or row.unassigned
    if asked is None or not asked.prediction_id:
        raise NotRepaired("It is not known which prediction of the provider it was.")
    try:
        prediction = provider.client().result(asked.prediction_id)
    except errors.WaveSpeedError as error:
        raise NotRepaired(f"The provider gives no result for it (any more): {error}") from error
    urls = storing.addresses(provider.output_urls(prediction)) if prediction.is_made else []
    if row.position >= len(urls):
        raise NotRepaired("The provider has no such output (any more).")
    folder = str(row.file.name).rpartition("/")[0]
    try:
        return storing.fetch_and_store(
            urls[row.position],
            position=row.position,
            seconds=row.generation.duration if row.generation else storing.longest_seconds(),
            folder=folder,
            attempt=uuid.uuid4(),
            renew=_nobody_waits,
            allow_loopback=provider.is_loopback(),
        )
    except StoreFailed as error:
        raise NotRepaired(str(error)) from error


def _take(row: Video, fetched: Video) -> None:
    """The row's file becomes the fetched one, and the old files go; unless the row was changed meanwhile."""
    changes = {name: getattr(fetched, name) for name in MEASURED}
    taken = Video.objects.filter(pk=row.pk, file=row.file.name, purged_at=None).update(
        file=fetched.file.name, poster=fetched.poster.name or "", **changes
    )
    if not taken:
        storing.delete_files([fetched])
        raise NotRepaired("It was changed meanwhile.")
    storing.delete_what_can_be([row])


def why_unreadable(row: Video) -> str:
    """Why its stored file is no video that can be read to its end; empty where it is one. Reads all of it."""
    with inventory.reading(), _copied(row) as path:
        try:
            video_file.probe(path)
        except video_file.Unprobeable as error:
            return error.message
    return ""


@contextmanager
def _copied(row: Video) -> Iterator[Path]:
    with temporary.folder() as here, (here / "video.mp4").open("wb") as local:
        for chunk in storing.chunks(str(row.file.name)):
            local.write(chunk)
        local.flush()
        yield Path(local.name)


def poster(row: Video) -> str:
    """Makes the poster anew from the stored video. Raises `NotRepaired`."""
    with _written(), _copied(row) as path:
        try:
            content = video_file.poster(path)
        except video_file.Unprobeable as error:
            raise NotRepaired(error.message) from error
        name = f"{str(row.file.name).rpartition('.')[0]}-{uuid.uuid4().hex}.jpg"
        saved = default_storage.save(name, ContentFile(content))
    if not Video.objects.filter(pk=row.pk, file=row.file.name, purged_at=None).update(poster=saved):
        default_storage.delete(saved)
        raise NotRepaired("It was changed meanwhile.")
    return "Made anew from the video."


def picture(image: SourceImage, broken: set[str]) -> str:
    """Makes what is broken of a picture's files anew from its original; where that is gone, the thumbnail from the picture."""
    source = "file" if "original" in broken else "original"
    if source in broken:
        raise NotRepaired("Its original is gone too: it has to be uploaded again.")
    with _written(), default_storage.open(getattr(image, source).name, "rb") as file:
        try:
            made = images.normalise(
                cast(BinaryIO, file), max_upload_bytes=settings.MAX_UPLOAD_BYTES, max_pixels=settings.MAX_IMAGE_PIXELS
            )
        except images.ImageRefused as error:
            raise NotRepaired(error.message) from error
    _take_picture(image, made, broken - {"original"})
    if "original" in broken:
        raise NotRepaired("Its original is gone; what the provider is sent is there.")
    return "Made anew from the original."


def _take_picture(image: SourceImage, made: images.NormalisedImage, broken: set[str]) -> None:
    """Under new names, so that what is damaged is never taken for what was mended."""
    contents = {"file": (made.extension, made.content), "thumbnail": ("jpg", made.thumbnail)}
    old = {field: getattr(image, field).name for field in broken}
    new = {}
    for field in broken:
        extension, content = contents[field]
        name = stored_name(image, f"{field}-{uuid.uuid4().hex}.{extension}")
        with _written():
            new[field] = default_storage.save(name, ContentFile(content))
    measured = {"bytes": len(made.content), "content_type": made.content_type} if "file" in broken else {}
    taken = SourceImage.objects.filter(pk=image.pk, purged_at=None, **old).update(**new, **measured)
    for name in (old if taken else new).values():
        with _written():
            default_storage.delete(name)
    if not taken:
        raise NotRepaired("It was changed meanwhile.")


def _nobody_waits() -> None:
    """No lease: the row's update says whether somebody was faster."""
