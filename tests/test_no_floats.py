"""No float anywhere near money: amounts are whole micro-dollars inside, and Decimal at every edge."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.db import models

ROOT = Path(__file__).resolve().parent.parent
EVERYTHING = ""

# What may measure with floats: seconds, bytes, pixels, shares of a screen. A top-level name of a module, or all of the
# module where it knows no money. New code that trips this drops its float, or says here what it measures.
ALLOWED = {
    ("generations/api/serializers.py", "VideoSerializer"): "seconds and frames per second",
    ("generations/provider/calls.py", EVERYTHING): "seconds",
    ("generations/lifecycle/outputs.py", "SECONDS"): "seconds",
    ("generations/timetable.py", EVERYTHING): "seconds",
    ("generations/lifecycle/wrong_clock.py", EVERYTHING): "seconds",
    ("generations/catalog/parameters.py", "Number"): "a model's own parameter",
    ("generations/catalog/parameters.py", "show"): "any input, quoted in an error",
    ("generations/catalog/parameters.py", "_number"): "an input that may be a float becomes an exact Decimal",
    ("generations/catalog/parameters.py", "_plain"): "a model's own parameter",
    ("generations/storage/download.py", EVERYTHING): "seconds",
    ("generations/counters.py", EVERYTHING): "seconds and counts",
    ("generations/lifecycle/resolve.py", "look_interval"): "part of a time span",
    ("generations/lifecycle/settle.py", "_settle_later"): "part of a time span",
    ("generations/lifecycle/timing.py", "poll_interval"): "seconds",
    ("generations/lifecycle/unassigned.py", "_look_again"): "seconds",
    ("generations/lifecycle/timing.py", "backoff"): "seconds",
    ("generations/lifecycle/timing.py", "call_lease"): "seconds",
    ("generations/models/generation.py", "LeasedQuerySet"): "seconds of a lease",
    ("generations/models/video.py", "Video"): "seconds and frames per second",
    ("generations/provider/__init__.py", "usual_seconds"): "seconds",
    ("projects/api/base/errors.py", EVERYTHING): "megabytes",
    ("projects/limited.py", EVERYTHING): "seconds",
    ("generations/watching/health.py", EVERYTHING): "seconds",
    ("generations/watching/heartbeat.py", EVERYTHING): "seconds",
    ("generations/watching/figures.py", EVERYTHING): "seconds and shares",
    ("generations/storage/temporary.py", EVERYTHING): "seconds",
    ("generations/storage/repairs.py", "_copied"): "seconds",
    ("generations/reports/focus.py", "_priced"): "a Decimal by a Decimal",
    ("generations/lifecycle/progress.py", "percent"): "part of the usual seconds",
    ("generations/management/commands/check_storage.py", "_size"): "bytes",
    ("generations/storage/room.py", "_shown"): "bytes",
    ("generations/storage/storing.py", EVERYTHING): "seconds",
    ("generations/storage/video.py", EVERYTHING): "seconds and pixels",
    ("generations/wavespeed/client.py", "MAX_PAUSE"): "seconds",
    ("generations/wavespeed/client.py", "Client"): "seconds",
    ("generations/wavespeed/client.py", "_plain_number"): "a model's own parameter",
    ("generations/wavespeed/errors.py", EVERYTHING): "seconds",
    ("generations/wavespeed/transport.py", EVERYTHING): "seconds",
    ("generations/wavespeed/webhooks.py", EVERYTHING): "seconds",
    ("projects/admin/display.py", "size"): "bytes",
    ("projects/colours.py", EVERYTHING): "light and colours",
    ("projects/digest.py", "_send"): "part of a time span",
    ("projects/fetch.py", EVERYTHING): "seconds",
    ("projects/images.py", EVERYTHING): "pixels and megabytes",
    ("projects/source_images.py", EVERYTHING): "seconds",
    ("projects/tasks.py", "_mail"): "part of a time span",
}


def is_float(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=float()) | ast.Name(id="float"):
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in {"FloatField", "DecimalField"}
        case ast.AugAssign(op=ast.Div()):
            return True
        case ast.BinOp(op=ast.Div(), left=left, right=right):
            return not (makes_decimal(left) or makes_decimal(right))
    return False


def makes_decimal(node: ast.AST) -> bool:
    """Whether it reads `Decimal(…)`: a number divided by one, or the other way round, is exact or refused."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Decimal"


def name_of(statement: ast.stmt) -> str:
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
    return f"line {statement.lineno}"


def floats_in(source: str) -> set[str]:
    """The top-level names whose code has a float, a FloatField, a DecimalField, or a division that makes a float."""
    return {
        name_of(statement)
        for statement in ast.parse(source).body
        if any(is_float(node) for node in ast.walk(statement))
    }


def modules() -> Iterator[Path]:
    for package in ("projects", "generations"):
        yield from (path for path in sorted((ROOT / package).rglob("*.py")) if "migrations" not in path.parts)


def test_no_module_has_a_float_near_money() -> None:
    found = {(str(path.relative_to(ROOT)), name) for path in modules() for name in floats_in(path.read_text())}
    whole = {module for module, name in ALLOWED if name == EVERYTHING}

    assert {(module, name) for module, name in found if module not in whole} - ALLOWED.keys() == set()
    used = found | {(module, EVERYTHING) for module, _ in found}
    assert ALLOWED.keys() - used == set(), "these have no float any more: take them off the list"


@pytest.mark.parametrize(
    "source",
    [
        "def price():\n    return 2.1",
        "price = float(text)",
        "def price(micros):\n    return micros / 1_000_000",
        "class Budget:\n    def half(self):\n        self.limit /= 2",
        "class Budget:\n    limit = models.FloatField()",
        "class Budget:\n    limit = DecimalField(max_digits=9)",
        "def price(value: int | float): ...",
    ],
)
def test_floats_are_found(source: str) -> None:
    assert len(floats_in(source)) == 1


@pytest.mark.parametrize("source", ["half = limit // 2", "usd = Decimal(micros) / MICRO", 'price = Decimal("2.1")'])
def test_exact_numbers_are_let_through(source: str) -> None:
    assert floats_in(source) == set()


def test_models_keep_money_in_whole_micro_dollars() -> None:
    """Django makes 64-bit integers of these on both databases; SQLite would compare decimals as floats."""
    money = {
        "amount",
        "limit",
        "spent",
        "reserved",
        "quote",
        "charged",
        "spent_delta",
        "reserved_delta",
        "approval_above",
    }
    fields = [
        field
        for label in ("projects", "generations")
        for model in apps.get_app_config(label).get_models()
        for field in model._meta.concrete_fields
    ]

    assert money <= {field.name for field in fields}
    assert {type(field) for field in fields if field.name in money} == {models.BigIntegerField}
    inexact = [str(field) for field in fields if isinstance(field, models.FloatField | models.DecimalField)]
    assert inexact == ["generations.Video.duration", "generations.Video.fps"]
