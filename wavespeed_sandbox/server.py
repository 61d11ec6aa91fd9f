"""The sandbox as a whole: the API and the files server on loopback, over one data directory."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import TracebackType

from wavespeed_sandbox import api, controls
from wavespeed_sandbox.account import Account, Settings
from wavespeed_sandbox.api import Api
from wavespeed_sandbox.billing import Billing
from wavespeed_sandbox.book import Book
from wavespeed_sandbox.clock import Clock
from wavespeed_sandbox.controls import Controls
from wavespeed_sandbox.faults import Faults
from wavespeed_sandbox.files import Files
from wavespeed_sandbox.predictions import Predictions
from wavespeed_sandbox.results import prediction_json
from wavespeed_sandbox.webhooks import Webhooks
from wavespeed_sandbox.wire import Handle, HttpServer, Request, Response, json_response
from wavespeed_sandbox.workshop import Workshop

RESOLUTIONS = {"2160p": 3840, "1080p": 1920, "720p": 1280, "180p": 320}
HOST = "127.0.0.1"


class Sandbox:
    """A provider in this process: `with Sandbox(data_dir) as sandbox: … sandbox.url`.

    Ports that are 0 are the ones of the last time on this data directory, when they are free, so that URLs that were
    handed out stay good. `speed` divides how long a generation takes; the other durations are seconds.
    """

    def __init__(
        self,
        data_dir: Path | str,
        *,
        port: int = 0,
        files_port: int = 0,
        resolution: str = "2160p",
        speed: float = 1.0,
        latency: float = 0.0,
        per_minute: int | None = None,
        concurrent: int | None = None,
        list_inputs: bool = True,
        billing_lag: float = 0.0,
        refund_after: float = 600.0,
        api_key: str | None = None,
        balance: Decimal | float | str = 1000,
    ) -> None:
        if resolution not in RESOLUTIONS:
            raise ValueError(f"resolution must be one of {', '.join(RESOLUTIONS)}, not {resolution}")
        if speed <= 0:
            raise ValueError(f"speed must be above 0, not {speed:g}")
        self._data_dir = Path(data_dir).resolve()
        self._ports = (port, files_port)
        self._speed = speed
        self._running = False
        self._settings = Settings(
            resolution=resolution,
            latency=latency,
            per_minute=per_minute,
            concurrent=concurrent,
            list_inputs=list_inputs,
            billing_lag=billing_lag,
            refund_after=refund_after,
            api_key=api_key,
            balance=Decimal(str(balance)),
        )

    def start(self) -> "Sandbox":
        """Serve, and take up what an earlier process left; raises OSError when a port is taken, or BookInUse."""
        book = Book(self._data_dir)
        self._account = account = _account(book, self._settings, self._speed)
        files = Files(account)
        self._api, self._controls = Api(account, files), Controls(account)
        try:
            self._api_server = _server(book, "port", self._ports[0], self._handle)
            self._files_server = _server(book, "files_port", self._ports[1], files.handle)
        except OSError:
            book.close()
            raise
        account.api_url = f"http://{HOST}:{self._api_server.port}"
        account.files_url = f"http://{HOST}:{self._files_server.port}"
        self._webhooks = Webhooks(
            book,
            account.predictions,
            account.clock,
            secret=account.webhook_secret,
            speed=lambda: account.speed,
            describe=lambda prediction: prediction_json(account, prediction),
        )
        self._api_server.start()
        self._files_server.start()
        account.workshop.resume()
        self._webhooks.start()
        self._running = True
        return self

    def stop(self) -> None:
        """Stop serving; what is unfinished goes on at the next start on this data directory. Twice is harmless."""
        if not self._running:
            return
        self._running = False
        self._api_server.stop()
        self._webhooks.stop()
        self._account.workshop.stop()
        self._files_server.stop()
        self._account.book.close()

    def __enter__(self) -> "Sandbox":
        return self if self._running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The API's host, as the official SDK takes it; the routes live below /api/v3."""
        return self._account.api_url

    @property
    def files_url(self) -> str:
        return self._account.files_url

    @property
    def data_dir(self) -> Path:
        return self._data_dir

    def _handle(self, request: Request) -> Response:
        if request.path.startswith(controls.PREFIX):
            return self._controls.handle(request)
        if request.path.startswith(api.PREFIX + "/"):
            response = self._api.handle(request)
            return replace(response, delay=response.delay + self._settings.latency)
        return json_response({"code": 404, "message": "not found"}, 404)


def _account(book: Book, settings: Settings, speed: float) -> Account:
    clock, predictions = Clock(book), Predictions(book)
    return Account(
        settings=settings,
        book=book,
        clock=clock,
        predictions=predictions,
        billing=Billing(book, settings.balance),
        faults=Faults(book),
        workshop=Workshop(book, predictions, clock, RESOLUTIONS[settings.resolution]),
        webhook_secret="whsec_" + book.secret("webhook_secret"),
        url_secret=book.secret("url_secret"),
        speed=speed,
    )


def _server(book: Book, name: str, port: int, handle: Handle) -> HttpServer:
    remembered = int(book.setting(name, "0"))
    try:
        server = HttpServer(HOST, port or remembered, handle)
    except OSError:
        if port:
            raise
        server = HttpServer(HOST, 0, handle)
    book.set_setting(name, str(server.port))
    return server
