import secrets
import signal
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from generations.models import Generation, Status
from generations.services import drafts, orders
from kling_studio.management import progress
from kling_studio.management.commands.demo import BUDGET, PHOTO, PROMPT, cropped
from kling_studio.management.commands.generate import DEFAULT_ENDPOINT, add_image
from kling_studio.processes import embedded
from kling_studio.processes.startup import require_no_check_errors
from kling_studio.processes.webserver import create_server
from kling_studio.wsgi import application
from projects.models import Enforcement, Period, Project
from projects.money import budgets, to_micros

DEMO_PROJECT = "Morning coffee"
RUNNING_PHOTO = PHOTO.with_name("rocket.jpg")
RUNNING_PROMPT = "The rocket lifts off in a cloud of steam; the camera follows it up into a clear sky."


class Command(BaseCommand):
    requires_system_checks: list[str] = []  # the errors alone, once the database is there
    help = "Serves the studio in one process: web, workers, dispatcher, and the sandbox when there is no key. Ctrl-C stops all of it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--no-seed", action="store_true", help="no demo project at the first start")

    def handle(self, **options: Any) -> None:
        call_command("migrate", verbosity=0)
        require_no_check_errors(databases=["default"])
        first_start = not User.objects.filter(is_superuser=True).exists()
        try:
            server = create_server(application, threads=8, host=options["host"], port=options["port"])
        except OSError as error:
            raise CommandError(f"Port {options['port']} is taken: {error.strerror}. Use --port N.") from error
        url = _address(options["host"], options["port"])
        if not settings.PUBLIC_URL_IS_SET:
            settings.PUBLIC_URL = url
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, _interrupt)  # SIGINT too: a shell starts what runs in the background without it
        with embedded.running():
            if first_start:
                admin = self._make_admin()
                if settings.WAVESPEED_SANDBOX and not options["no_seed"]:
                    self._seed(admin)
            self.stdout.write(f"Studio   {url}/admin/\nAPI      {url}/api/v1/docs/")
            self.stdout.write(
                f"Provider {settings.WAVESPEED_BASE_URL}{' (the sandbox)' if settings.WAVESPEED_SANDBOX else ''}"
            )
            self.stdout.write(f"Kept in  {settings.STUDIO_HOME}\nCtrl-C stops all of it.")
            self.stdout.flush()
            try:
                server.run()
            finally:
                server.close()
        self.stdout.write("Stopped.")

    def _make_admin(self) -> User:
        password = secrets.token_urlsafe(12)
        admin = User.objects.create_superuser("admin", "admin@localhost", password)
        self.stdout.write(
            f"Made the user “admin” with the password {password}\nIt is not shown again; change it after you logged in."
        )
        self.stdout.flush()
        return admin

    def _seed(self, admin: User) -> None:
        """A project with one finished video and one that is running; a sandbox makes them, so they cost nothing."""
        project = Project.objects.create(name=DEMO_PROJECT, description="What a project looks like.", created_by=admin)
        limit = to_micros(BUDGET * 2)
        budgets.create(
            project=project, user=None, period=Period.MONTH, enforcement=Enforcement.HARD, limit=limit, by=admin
        )
        self.stdout.write("Making a first video:")
        self.stdout.flush()
        first = _queue(project, admin, PHOTO, PROMPT, duration=5)
        progress.follow(first, timeout=300)
        if first.status != Status.COMPLETED:
            self.stdout.write(
                f"The first video is still {first.get_status_display().lower()}; the studio goes on with it."
            )
        _queue(project, admin, RUNNING_PHOTO, RUNNING_PROMPT, duration=15)


def _queue(project: Project, admin: User, photo: Path, prompt: str, *, duration: int) -> Generation:
    with tempfile.TemporaryDirectory() as folder:
        image = add_image(project, cropped(photo, Path(folder)), admin)
    inputs = {"image": str(image), "prompt": prompt, "duration": duration, "sound": True}
    return orders.queue(drafts.create(project, endpoint=DEFAULT_ENDPOINT, inputs=inputs, by=admin), by=admin)


def _address(host: str, port: int) -> str:
    """Where this machine's own browser finds what listens at `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened at
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
