"""Puts pictures into a project, by upload or from an address; archives them, and moves them to the trash."""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.base import ContentFile, File
from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, transaction
from django.utils import timezone

from projects import fetch, images, permissions, versions
from projects.images import ImageRefused, NormalisedImage
from projects.models import Project, SourceImage
from projects.tags import normalised
from projects.versions import Expected

IMPORT_SECONDS = 60.0
ORIGINAL_EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WebP": "webp", "HEIC": "heic"}
FILES = ("file", "thumbnail", "original")


def add(
    project: Project,
    file: BinaryIO | UploadedFile,
    *,
    filename: str,
    by: User,
    title: str = "",
    tags: Iterable[str] = (),
    source_url: str = "",
) -> tuple[SourceImage, bool]:
    """Stores a picture, or finds the one that the project has of the same bytes (False), archived or not.

    Raises `PermissionDenied`, `ImageRefused`, and `ValidationError` for title or tags. Opens no transaction while it stores.
    """
    _require_may_add(project, by)
    digest = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
    file.seek(0)
    known = _brought_back(project, digest, by)
    if known is not None and _has_files(known):
        return known, False
    picture = images.normalise(
        cast(BinaryIO, file), max_upload_bytes=settings.MAX_UPLOAD_BYTES, max_pixels=settings.MAX_IMAGE_PIXELS
    )
    if known is not None:
        return _filled_again(known, picture, file, by), True
    image = SourceImage(
        project=project,
        title=title.strip(),
        tags=normalised(tags),
        content_type=picture.content_type,
        width=picture.width,
        height=picture.height,
        bytes=len(picture.content),
        sha256=picture.sha256,
        notes=list(picture.notes),
        original_name=_plain_name(filename),
        source_url=_without_query(source_url),
        created_by=by,
    )
    image.clean_fields(exclude={*FILES, "source_url"})
    return _insert(image, picture, file)


def _require_may_add(project: Project, by: User) -> None:
    permissions.require(by, "edit", project)
    if project.archived_at is not None:
        raise ImageRefused("archived", f"{project} is archived: no pictures can be added to it.")


def _brought_back(project: Project, digest: str, by: User) -> SourceImage | None:
    image = SourceImage.objects.filter(project=project, sha256=digest).first()
    if image is not None and image.archived_at is not None and image.purged_at is None:
        _bring_back(image, by)
    return image


def _has_files(image: SourceImage) -> bool:
    """False after the trash was emptied, or when the storage has lost them: the upload brings them back."""
    return image.purged_at is None and all(
        field.name and field.storage.exists(field.name) for field in (getattr(image, name) for name in FILES)
    )


def _filled_again(
    image: SourceImage, normalised: NormalisedImage, file: BinaryIO | UploadedFile, by: User
) -> SourceImage:
    """The same picture comes again after its files were deleted: its row, and what was made of it, stay one."""
    row = SourceImage.objects.get(pk=image.pk)
    with _stored(image, normalised, file), versions.editing(row, by=by):
        row.file, row.thumbnail, row.original = image.file.name, image.thumbnail.name, image.original.name
        row.bytes, row.content_type = len(normalised.content), normalised.content_type
        row.width, row.height = normalised.width, normalised.height
        row.notes = list(normalised.notes)
        row.archived_at = row.trashed_at = row.trashed_by = row.purged_at = None
    return row


def _insert(image: SourceImage, normalised: NormalisedImage, file: BinaryIO | UploadedFile) -> tuple[SourceImage, bool]:
    try:
        with _stored(image, normalised, file), transaction.atomic():
            image.save(force_insert=True)
    except IntegrityError:
        # Somebody else added the same picture meanwhile.
        winner = _brought_back(image.project, image.sha256, image.created_by)
        if winner is None:
            raise
        return winner, False
    return image, True


@contextmanager
def _stored(image: SourceImage, normalised: NormalisedImage, file: BinaryIO | UploadedFile) -> Iterator[None]:
    """Keeps the picture's files in the storage only if the block, which saves its row, succeeds."""
    try:
        image.file.save(f"picture.{normalised.extension}", ContentFile(normalised.content), save=False)
        image.thumbnail.save("thumbnail.jpg", ContentFile(normalised.thumbnail), save=False)
        file.seek(0)
        extension = ORIGINAL_EXTENSIONS[normalised.original_format]
        # Last, because boto3 closes what it was given; as a plain File, because Django would move an upload's own.
        image.original.save(f"original.{extension}", File(file), save=False)
        yield
    except BaseException:
        for field in (getattr(image, name) for name in FILES):
            if field:
                field.delete(save=False)
        raise


def _plain_name(filename: str) -> str:
    """The last part of an uploader's path, whichever way its slashes lean, without control characters."""
    name = PurePosixPath(filename.replace("\\", "/")).name
    return "".join(character for character in name if character.isprintable())[-255:]


def _without_query(url: str) -> str:
    """Query and fragment may be a signature that opens the file."""
    return urlsplit(url.strip())._replace(query="", fragment="").geturl()[:2000]


def import_url(
    project: Project, url: str, *, by: User, title: str = "", tags: Iterable[str] = (), allow_loopback: bool = False
) -> tuple[SourceImage, bool]:
    """Like `add`, with the picture at an address. Raises `FetchRefused` and `FetchFailed` too. Call it outside transactions."""
    _require_may_add(project, by)
    with tempfile.TemporaryFile() as came, tempfile.TemporaryFile() as unpacked:
        limit = settings.MAX_UPLOAD_BYTES
        with fetch.stream(url, max_bytes=limit, deadline=IMPORT_SECONDS, allow_loopback=allow_loopback) as download:
            for chunk in download:
                came.write(chunk)
        is_packed = fetch.unpack(came, download.encoding, unpacked, max_bytes=limit)
        file = unpacked if is_packed else came
        file.seek(0)
        name = unquote(PurePosixPath(urlsplit(download.final_url).path).name)
        try:
            return add(project, cast(BinaryIO, file), filename=name, by=by, title=title, tags=tags, source_url=url)
        except ImageRefused as error:
            why = f"{error.message} {fetch.not_unpacked(download.encoding)}".rstrip()
            raise ImageRefused(error.code, why) from error


def edit(image: SourceImage, *, by: User, expected: Expected = None, **fields: Any) -> None:
    """Sets its title or its tags. Raises `PermissionDenied`, `ValidationError`, `Stale`."""
    with versions.editing(image, by=by, expected=expected):
        permissions.require_now(by, "edit", image.project)
        if "tags" in fields:
            fields["tags"] = normalised(fields["tags"])
        for name, value in fields.items():
            setattr(image, name, value)


def archive(image: SourceImage, *, by: User, expected: Expected = None) -> None:
    """Takes the picture out of sight; videos made of it stay."""
    with versions.editing(image, by=by, expected=expected):
        permissions.require_now(by, "edit", image.project)
        image.archived_at = image.archived_at or timezone.now()


def trash(image: SourceImage, *, by: User, expected: Expected = None) -> None:
    """Out of sight, and its files are deleted after `TRASH_DAYS`, unless something unfinished needs them; videos made of it stay."""
    with versions.editing(image, by=by, expected=expected):
        permissions.require_now(by, "edit", image.project)
        if image.trashed_at is None:
            image.trashed_at, image.trashed_by = timezone.now(), by
            image.archived_at = image.archived_at or image.trashed_at


def restore(image: SourceImage, *, by: User, expected: Expected = None) -> None:
    """Out of the trash and out of the archive. Raises `ImageRefused` when its files are deleted by now."""
    with versions.editing(image, by=by, expected=expected):
        permissions.require_now(by, "edit", image.project)
        if image.purged_at is not None:
            raise ImageRefused(
                "deleted", f"The files of {image} were deleted. Upload the same picture again to bring it back."
            )
        image.trashed_at = image.trashed_by = image.archived_at = None


def _bring_back(image: SourceImage, by: User) -> None:
    with versions.editing(image, by=by):
        image.archived_at = image.trashed_at = image.trashed_by = None
