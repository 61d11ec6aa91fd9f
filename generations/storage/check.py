"""Compares what the database says is stored with what the storage holds; mends what can be mended, and deletes only what nobody needs.

Only the studio's own folders are looked at (`projects/`, `unassigned/`, `checks/`), and in them nothing that is younger than a day:
a video that is being stored, or a picture that is being uploaded, has files before it has a row.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import structlog
from django.utils import timezone

from generations import alerts
from generations.models import Generation, Lane, PauseCause, RefusedOutput, Status, UnassignedPrediction, Video
from generations.storage import inventory, repairs
from generations.storage.inventory import StorageUnreadable, StoredFile
from generations.storage.repairs import NotRepaired
from projects.models import Project, SourceImage

log = structlog.get_logger(__name__)

# Older than any lease, upload or download.
OLD = timedelta(days=1)
PICTURE_FILES = ("file", "thumbnail", "original")
RESTORED = "Kept: the database was restored from a backup, and may not know what it belongs to."


class Kind(StrEnum):
    MISSING = "missing"
    SIZE = "size"
    CHECKSUM = "checksum"
    UNREADABLE = "unreadable"
    POSTER = "poster"
    PICTURE = "picture"
    LEFTOVER = "leftover"
    UPLOAD = "upload"


# One, and several.
NAMES = {
    Kind.MISSING: ("video without its file", "videos without their files"),
    Kind.SIZE: ("video of the wrong size", "videos of the wrong size"),
    Kind.CHECKSUM: ("video with the wrong checksum", "videos with the wrong checksum"),
    Kind.UNREADABLE: ("video that can't be read", "videos that can't be read"),
    Kind.POSTER: ("video without its poster", "videos without their posters"),
    Kind.PICTURE: ("picture whose files are not in order", "pictures whose files are not in order"),
    Kind.LEFTOVER: ("file that belongs to nothing", "files that belong to nothing"),
    Kind.UPLOAD: ("upload that never ended", "uploads that never ended"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be; `done` says what this run did about it, or why it could do nothing.

    What `is_kept` belongs to nothing and may be what was paid for: only people delete it.
    """

    kind: Kind
    file: str
    what: str
    why: str
    project: str = ""
    generation: str = ""
    done: str = ""
    is_repaired: bool = False
    is_kept: bool = False


@dataclass
class Report:
    videos: int = 0
    pictures: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def open(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.is_repaired and not finding.is_kept]

    @property
    def kept(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.is_kept]

    @property
    def counts(self) -> str:
        """“2 videos without their files, 1 video without its poster”, of what is still open."""
        found = Counter(finding.kind for finding in self.open)
        return ", ".join(f"{found[kind]} {NAMES[kind][found[kind] > 1]}" for kind in Kind if found[kind])

    @property
    def all_are_missing(self) -> bool:
        """Then it is rather the storage that is another one."""
        missing = sum(1 for finding in self.findings if finding.kind == Kind.MISSING)
        return self.videos > 1 and missing == self.videos

    def as_json(self) -> dict[str, Any]:
        return {
            "videos": self.videos,
            "pictures": self.pictures,
            "bytes": self.bytes,
            "open": len(self.open),
            "kept": len(self.kept),
            "findings": [asdict(finding) for finding in self.findings],
        }


def check(*, project: Project | None = None, checksums: bool = False, repair: bool = False) -> Report:
    """Looks at existence, sizes and what is known to be unreadable, with `checksums` at every byte. Raises `StorageUnreadable`."""
    return _Check(checksums=checksums, repair=repair).run(project)


def nightly() -> Report | None:
    """The cheap part, for the dispatcher; studio owners hear of what is wrong. None if the storage could not be read."""
    try:
        report = check()
    except StorageUnreadable as error:
        alerts.files_not_checked(str(error))
        return None
    if report.open:
        log.warning("files_not_in_order", found=report.counts)
        alerts.files_not_in_order(report.counts)
    if report.kept:
        alerts.files_kept([finding.file for finding in report.kept])
    return report


class _Check:
    def __init__(self, *, checksums: bool, repair: bool) -> None:
        self.report = Report()
        self._checksums = checksums
        self._repair = repair
        self._old = timezone.now() - OLD
        # What such a database does not know may have been paid after its backup: nothing is deleted by what it says.
        self._may_delete = not Lane.objects.filter(paused_cause=PauseCause.RESTORED, paused_at__isnull=False).exists()

    def run(self, project: Project | None) -> Report:
        self._unassigned = inventory.files_under("unassigned")
        for each in [project] if project else Project.objects.order_by("name", "pk"):
            self._project(each)
        if project is None:
            self._elsewhere()
        return self.report

    # Rows

    def _project(self, project: Project) -> None:
        listed = inventory.files_under(f"projects/{project.pk}")
        everywhere = {**self._unassigned, **listed}
        videos = list(
            Video.objects.filter(generation__project=project, purged_at=None)
            .select_related("generation__project", "unassigned")
            .order_by("created_at", "pk")
        )
        pictures = list(SourceImage.objects.filter(project=project, purged_at=None).select_related("project"))
        wrong = self._videos(videos, everywhere)
        self._pictures(pictures, listed)
        refused = RefusedOutput.objects.filter(generation__project=project).exclude(file="")
        self._leftovers(listed, _names(videos, pictures).union(refused.values_list("file", flat=True)), wrong)

    def _elsewhere(self) -> None:
        videos = list(Video.objects.filter(unassigned__isnull=False, purged_at=None).select_related("unassigned"))
        wrong = self._videos(videos, self._unassigned)
        assigned = Video.objects.filter(file__startswith="unassigned/", generation__isnull=False, purged_at=None)
        self._leftovers(self._unassigned, _names([*videos, *assigned], []), wrong)
        known = {str(pk) for pk in Project.objects.values_list("pk", flat=True)}
        for folder in inventory.folders_in("projects"):
            if folder not in known:
                self._leftovers(inventory.files_under(f"projects/{folder}"), set(), set())
        self._leftovers(inventory.files_under("checks"), set(), set())
        self._uploads()

    def _videos(self, rows: list[Video], listed: dict[str, StoredFile]) -> set[UUID]:
        """The ids of the generations and predictions of which a video is still not in order."""
        spares = _by_folder(listed.keys() - _names(rows, []))
        wrong = set()
        for row in rows:
            self.report.videos += 1
            self.report.bytes += row.bytes
            problem = self._problem(row, listed)
            if problem is None:
                continue
            if not self._video(row, problem, spares.get(_folder(str(row.file.name)), [])):
                wrong.add(row.generation_id or row.unassigned_id)
        return {pk for pk in wrong if pk}

    def _problem(self, row: Video, listed: dict[str, StoredFile]) -> tuple[Kind, str] | None:
        name, poster = str(row.file.name), row.poster.name or ""
        stored = listed.get(name)
        size = stored.size if stored else inventory.size(name)
        if size is None:
            return Kind.MISSING, "The storage has no such file."
        if size != row.bytes:
            return Kind.SIZE, f"The storage has {size:,} bytes of {row.bytes:,}."
        if self._checksums and inventory.sha256(name) != row.sha256:
            return Kind.CHECKSUM, "The storage has as many bytes, but other ones."
        if unreadable := self._unreadable(row):
            return Kind.UNREADABLE, unreadable
        has_poster = poster in listed or (poster and inventory.size(poster))
        if not row.probe_error and not has_poster:
            return (
                Kind.POSTER,
                "The storage has no such file." if poster else "None could be made when it was stored.",
            )
        return None

    def _unreadable(self, row: Video) -> str:
        """Why it is no video, in a sentence, unless an owner took it as it is; what was never probed like today only a look at it tells."""
        if row.taken_as_it_is_at:
            return ""
        return row.probe_error or (repairs.why_unreadable(row) if self._checksums else "")

    def _video(self, row: Video, problem: tuple[Kind, str], spares: list[str]) -> bool:
        """Reports it, after another look at the row: it may have been purged, or repaired, since; whether it is in order now."""
        kind, why = problem
        if not Video.objects.filter(pk=row.pk, purged_at=None, file=row.file.name, poster=row.poster.name).exists():
            return True
        done, is_repaired = "", False
        if self._repair:
            try:
                copies = [] if kind == Kind.UNREADABLE else spares
                done = repairs.poster(row) if kind == Kind.POSTER else repairs.video(row, spares=copies)
                is_repaired = True
            except NotRepaired as error:
                done = str(error)
        self._add(
            kind,
            str(row.poster.name or row.file.name if kind == Kind.POSTER else row.file.name),
            str(row),
            why,
            project=str(row.generation.project) if row.generation else "",
            generation=str(row.generation_id or ""),
            done=done,
            is_repaired=is_repaired,
        )
        return is_repaired

    def _pictures(self, rows: Iterable[SourceImage], listed: dict[str, StoredFile]) -> None:
        for row in rows:
            self.report.pictures += 1
            self.report.bytes += sum(listed[name].size for name in _names([], [row]) if name in listed)
            broken = self._broken(row, listed)
            if broken and SourceImage.objects.filter(pk=row.pk, purged_at=None, file=row.file.name).exists():
                self._picture(row, broken)

    def _broken(self, row: SourceImage, listed: dict[str, StoredFile]) -> dict[str, str]:
        broken = {}
        for name in PICTURE_FILES:
            stored = listed.get(getattr(row, name).name)
            if stored is None:
                broken[name] = "is missing"
            elif name == "file" and stored.size != row.bytes:
                broken[name] = f"has {stored.size:,} bytes of {row.bytes:,}"
            elif not stored.size:
                broken[name] = "is empty"
            elif name == "original" and self._checksums and inventory.sha256(stored.name) != row.sha256:
                broken[name] = "has other bytes than were uploaded"
        return broken

    def _picture(self, row: SourceImage, broken: dict[str, str]) -> None:
        done, is_repaired = "", False
        if self._repair:
            try:
                done, is_repaired = repairs.picture(row, set(broken)), True
            except NotRepaired as error:
                done = str(error)
        words = {"file": "the picture", "thumbnail": "its thumbnail", "original": "the original"}
        why = ", ".join(f"{words[name]} {problem}" for name, problem in broken.items())
        self._add(
            Kind.PICTURE,
            getattr(row, next(iter(broken))).name,
            f"Picture “{row}”",
            f"{why[:1].upper()}{why[1:]}.",
            project=str(row.project),
            done=done,
            is_repaired=is_repaired,
        )

    # Files

    def _leftovers(self, listed: dict[str, StoredFile], known: set[str], wrong: set[UUID]) -> None:
        for file in listed.values():
            if file.name in known or file.modified_at > self._old or _is_known(file.name):
                continue
            kept = _why_kept(file, wrong)
            if kept is None:
                continue
            if not self._may_delete:
                kept = kept or RESTORED
            is_repaired = self._repair and not kept
            if is_repaired:
                inventory.delete(file.name)
            done = "Deleted." if is_repaired else kept
            why = f"Left by something that did not come to its end; {file.size:,} bytes."
            self._add(Kind.LEFTOVER, file.name, file.name, why, done=done, is_repaired=is_repaired, is_kept=bool(kept))

    def _uploads(self) -> None:
        for upload in inventory.unfinished_uploads():
            if upload.begun_at > self._old:
                continue
            if self._repair:
                inventory.abort(upload)
            self._add(
                Kind.UPLOAD,
                upload.name,
                upload.name,
                f"Begun on {upload.begun_at:%Y-%m-%d} and never ended: its parts cost, and no listing shows them.",
                done="Aborted." if self._repair else "",
                is_repaired=self._repair,
            )

    def _add(self, kind: Kind, file: str, what: str, why: str, **fields: Any) -> None:
        self.report.findings.append(Finding(kind, file, what, why, **fields))


def _names(videos: Iterable[Video], pictures: Iterable[SourceImage]) -> set[str]:
    names = [name for row in videos for name in (row.file.name, row.poster.name)]
    names += [getattr(row, field).name for row in pictures for field in PICTURE_FILES]
    return {name for name in names if name}


def _is_known(name: str) -> bool:
    """Another look, as a repair of this very run, or a worker, may have given it to a row since the rows were read."""
    return (
        Video.objects.filter(file=name).exists()
        or Video.objects.filter(poster=name).exists()
        or RefusedOutput.objects.filter(file=name).exists()
        or SourceImage.objects.filter(file=name).exists()
        or SourceImage.objects.filter(thumbnail=name).exists()
        or SourceImage.objects.filter(original=name).exists()
    )


def _why_kept(file: StoredFile, wrong: set[UUID]) -> str | None:
    """Why a file without a row is kept, “” if nobody needs it, None if it is none of the studio's own names."""
    match file.name.split("/"):
        case ["checks", _]:
            return ""
        case ["projects", project, "source-images", picture, _] if _is_id(project) and _is_id(picture):
            return (
                "" if Project.objects.filter(pk=project).exists() else "Kept: this database does not know its project."
            )
        case ["projects", project, "videos", generation, _] if _is_id(project) and _is_id(generation):
            return _why_owed(Generation.objects.filter(pk=generation).first(), file.modified_at, wrong)
        case ["unassigned", prediction, _] if _is_id(prediction):
            return _why_undecided(UnassignedPrediction.objects.filter(pk=prediction).first(), wrong)
    return None


def _why_owed(generation: Generation | None, stored_at: datetime, wrong: set[UUID]) -> str:
    if generation is None:
        return "Kept: this database does not know its generation. Was it restored from a backup?"
    if generation.status != Status.COMPLETED:
        # A cancelled one was never submitted. It has files where a database before this one, of which a backup was restored, did so.
        return f"Kept: its generation is {generation.get_status_display().lower()}, and this may be what was paid for."
    if generation.submitted_at and stored_at < generation.submitted_at:
        return "Kept: it is older than its generation's request, and this may be what a database before this one has paid for."
    if generation.pk in wrong:
        return "Kept: the video that it may be a part or a copy of is not in order."
    return ""


def _why_undecided(row: UnassignedPrediction | None, wrong: set[UUID]) -> str:
    if row is None:
        return "Kept: this database does not know its prediction. Was it restored from a backup?"
    if row.pk in wrong:
        return "Kept: the video that it may be a part or a copy of is not in order."
    owner = row.assigned_to
    if row.stored_at is None and (owner is None or owner.status != Status.COMPLETED):
        return "Kept: what it is a part of is not stored yet."
    return ""


def _by_folder(listed: set[str]) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = defaultdict(list)
    for name in listed:
        folders[_folder(name)].append(name)
    return folders


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
