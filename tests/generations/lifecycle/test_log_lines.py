"""The way of a video through the log of machines: where it stands, what the provider calls it, what it costs."""

import logging

import pytest

from generations.services import drafts, orders
from projects.models import Project
from tests import factories
from tests.pipeline import ENDPOINT, run_to_end
from tests.sandbox import SandboxControl


@pytest.mark.django_db(transaction=True)
def test_each_move_and_each_booking_is_a_line(
    project: Project, wavespeed: SandboxControl, caplog: pytest.LogCaptureFixture
) -> None:
    for logger in ("generations.moves", "projects.money.spend"):
        caplog.set_level(logging.INFO, logger=logger)
    factories.budget(project, 100_000_000)
    by = project.created_by
    inputs = {"image": str(factories.source_image(project, by).pk), "prompt": "Steam", "duration": 5}
    generation = orders.queue(drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=by), by=by)
    run_to_end(generation)

    generation.refresh_from_db()
    lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    moves = [line for line in lines if line["event"] == "generation_moved"]
    assert {line["generation"] for line in lines if line["event"] in {"generation_moved", "booked"}} == {
        str(generation.pk)
    }
    assert [line["status"] for line in moves] == ["queued", "submitting", "processing", "storing", "completed"]
    assert moves[0]["price_usd"] == "2.10"
    assert moves[2]["prediction"] == generation.prediction_id
    assert moves[3]["charged_usd"] == "2.10"
    booked = [(line["kind"], line["reserved_usd"], line["spent_usd"]) for line in lines if line["event"] == "booked"]
    assert booked == [("reserve", "2.10", "0.00"), ("charge", "-2.10", "2.10")]
    assert "Steam" not in str(lines)
