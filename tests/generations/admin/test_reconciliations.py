import dramatiq
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from generations import catalog, reconcile, tasks
from generations.models import Generation, PausedEndpoint, Reconciliation
from projects.models import BudgetPeriod
from tests.generations.admin.test_pages import text_of, told
from tests.pipeline import ENDPOINT, run_to_end
from tests.sandbox import SandboxControl

LIST = reverse("admin:generations_reconciliation_changelist")
LANE = reverse("admin:generations_lane_changelist")


@pytest.fixture
def doctored(queued: Generation, wavespeed: SandboxControl) -> Reconciliation:
    """A bill that asks for 40 cents more, has an orphan, and a balance that is wrong."""
    run_to_end(queued)
    row = wavespeed.bill()["rows"][0]
    orphan = {"prediction_id": "<b>" * 3, "billing_type": "deduct", "price": 0.42}
    wavespeed.doctor(change=[{"uuid": row["uuid"], "price": 2.5}], add=[orphan])
    BudgetPeriod.objects.update(spent=1)
    return reconcile.run(reconcile.begin())


def test_the_report_is_shown_as_tables(owner_client: Client, doctored: Reconciliation) -> None:
    page = text_of(owner_client.get(reverse("admin:generations_reconciliation_change", args=[doctored.pk])))

    assert "<h2>3 differences</h2>" in page
    for amount in ("$2.10", "$2.50", "$0.40", "$0.42", "$0.000001"):
        assert f">{amount}</td>" in page
    for heading in ("Our own books", "Differences from the bill", "Orphans"):
        assert f"<h2>{heading}</h2>" in page
    assert "<h2>Held</h2>" not in page
    assert "Prediction &lt;b&gt;&lt;b&gt;&lt;b&gt;" in page
    assert "3 differences" in text_of(owner_client.get(LIST))


def test_reconcile_now_is_run_by_a_worker(
    owner_client: Client, studio_owner: User, doctored: Reconciliation, django_capture_on_commit_callbacks: object
) -> None:
    broker = dramatiq.get_broker()
    broker.flush_all()
    with django_capture_on_commit_callbacks(execute=True):
        answer = owner_client.post(reverse("admin:generations_reconciliation_now"), follow=True)

    begun = Reconciliation.objects.first()
    assert (begun.started_by, begun.finished_at) == (studio_owner, None)
    assert told(answer) == ["The bill is being read. Load this page again in a moment."]
    assert "<h2>Running</h2>" in text_of(answer)
    assert broker.queues["default"].qsize() == 1
    broker.flush_all()
    tasks.reconcile(str(begun.pk))
    begun.refresh_from_db()
    assert begun.differences == 3


def test_a_run_that_failed_says_why(owner_client: Client, doctored: Reconciliation, wavespeed: SandboxControl) -> None:
    wavespeed.arm("free_500", route="billings")
    failed = reconcile.run(reconcile.begin())

    page = text_of(owner_client.get(reverse("admin:generations_reconciliation_change", args=[failed.pk])))

    assert "The provider&#x27;s bill can&#x27;t be read, so nothing was changed" in page


def test_others_see_no_reconciliations(editor_client: Client, doctored: Reconciliation) -> None:
    one = reverse("admin:generations_reconciliation_change", args=[doctored.pk])
    assert [editor_client.get(url).status_code for url in (LIST, one)] == [403, 404]
    assert editor_client.post(reverse("admin:generations_reconciliation_now")).status_code == 403
    assert LIST not in text_of(editor_client.get(reverse("admin:index")))


def test_a_paused_endpoint_is_resumed_on_the_lane_page(owner_client: Client, editor_client: Client) -> None:
    PausedEndpoint.objects.create(endpoint=ENDPOINT, reason="It charged more than was reserved.")
    page = text_of(owner_client.get(LANE))
    assert "It charged more than was reserved." in page

    url = reverse("admin:generations_lane_resume_endpoint")
    assert editor_client.post(url, {"endpoint": ENDPOINT}).status_code == 403
    answer = owner_client.post(url, {"endpoint": ENDPOINT}, follow=True)

    title = catalog.get(ENDPOINT).title
    assert told(answer) == [f"Resumed: what is queued for {title} is submitted again, in turn."]
    assert not PausedEndpoint.objects.exists()
