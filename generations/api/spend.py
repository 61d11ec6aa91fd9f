"""What was spent: reports and their downloads, of one project or of all that one may see."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from django.http import FileResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from generations import reports
from generations.api.serializers import CURRENCY, CURRENCY_FIELD
from generations.reports import download
from projects.api.base.fields import MoneyField
from projects.api.base.views import Api
from projects.api.serializers import FiguresSerializer
from projects.api.views import visible_project
from projects.money.forecast import Forecast

CSV = {(200, "text/csv"): OpenApiTypes.STR}
XLSX = {(200, download.XLSX): OpenApiTypes.BINARY}


@extend_schema_field({"type": "string", "format": "date", "pattern": "^20[2-9][0-9]-[0-9]{2}-[0-9]{2}$"})
class Day(serializers.DateField):
    """From 2020 to 2099: what is outside of it is a slip of the pen."""


class DaysQuery(serializers.Serializer):
    def get_fields(self) -> dict[str, serializers.Field]:
        """`from` is no name in Python."""
        own = {
            "from": Day(
                required=False,
                help_text="first day, in 2020 to 2099 and at most 3,660 days before `to`; the first of the month of `to`",
            ),
            "to": Day(required=False, help_text="last day, included, in 2020 to 2099; today"),
        }
        return {**own, **super().get_fields()}


class SpendQuery(DaysQuery):
    by = serializers.ChoiceField(choices=reports.By.choices, default=reports.By.DAY)


class AmountsSerializer(serializers.Serializer):
    net = MoneyField(source="amounts.net", help_text="charged + adjusted − refunded")
    charged = MoneyField(source="amounts.charged")
    refunded = MoneyField(source="amounts.refunded", help_text="lowers net")
    adjusted = MoneyField(source="amounts.adjusted", help_text="corrections to the provider’s bill, with their sign")
    charges = serializers.IntegerField(source="amounts.charges", help_text="paid requests")


class RowSerializer(AmountsSerializer):
    key = serializers.CharField(
        help_text="day, endpoint, username, tag, status or project id; empty: no tag, or unknown"
    )
    label = serializers.CharField(help_text="for people")  # type: ignore[assignment]  # a field here, not its option


class WastedSerializer(serializers.Serializer):
    total = MoneyField(source="wasted")
    failed = MoneyField(help_text="generations that failed and were billed")
    ignored = MoneyField(help_text="results that nobody wanted")


class ReportSerializer(serializers.Serializer):
    """What was booked from the first to the last day."""

    time_zone = serializers.CharField(source="report.scope.zone.key", help_text="where its days begin")
    totals = AmountsSerializer(source="total_row")
    finished_videos = serializers.IntegerField(source="report.videos")
    finished_seconds = serializers.IntegerField(source="report.seconds")
    cost_per_finished_video = MoneyField(
        source="report.per_video", allow_null=True, help_text="net spend by finished videos, waste included"
    )
    wasted = WastedSerializer(source="report")
    by = serializers.ChoiceField(choices=reports.By.choices)
    rows = RowSerializer(many=True, help_text="by tag: what has several tags counts in full under each")

    def get_fields(self) -> dict[str, serializers.Field]:
        own = {
            "from": serializers.DateField(source="report.days.first"),
            "to": serializers.DateField(source="report.days.last"),
        }
        return {**own, **super().get_fields()}


class ForecastSerializer(serializers.Serializer):
    budget = serializers.UUIDField(source="figures.budget.pk")
    ends_at = serializers.DateTimeField(allow_null=True, help_text="the end of the budget’s present period")
    amount = MoneyField(
        allow_null=True,
        help_text="what the period will have cost by then, of a hard budget its limit at most; null: too early to tell",
    )
    daily = MoneyField(allow_null=True, help_text="the mean net spend a day, lately; null: too early to tell")
    lasts_until = serializers.DateTimeField(
        allow_null=True, help_text="when the limit is reached at that pace; null: not in sight"
    )
    method = serializers.CharField(help_text="how the amount came about, in words")


class SpendSerializer(serializers.Serializer):
    limit = MoneyField(
        source="standing.limit",
        allow_null=True,
        help_text="of the tightest hard budget that binds all that is counted here; null: none does, or these are some projects of "
        "several: see `budgets/` for the studio's, and each project's `spend/`",
    )
    spent = MoneyField(source="standing.spent", help_text="since the beginning")
    reserved = MoneyField(source="standing.reserved", help_text="held for what is on its way")
    unconfirmed = MoneyField(source="standing.unconfirmed", help_text="the part of it whose outcome nobody knows")
    free = MoneyField(source="standing.free", allow_null=True, help_text="in the tightest hard budget")
    currency = serializers.SerializerMethodField()
    since = serializers.DateTimeField(allow_null=True, help_text="when the project began; null: several projects")
    budgets = FiguresSerializer(
        many=True,
        source="standing.figures",
        help_text="those that bind all that is counted here, and nothing else with it",
    )
    forecasts = ForecastSerializer(many=True)
    report = ReportSerializer(source="*")

    @extend_schema_field(CURRENCY_FIELD)
    def get_currency(self, spend: Any) -> str:
        return CURRENCY


@dataclass(frozen=True)
class Spend:
    """What the answer is made of."""

    standing: reports.Standing
    forecasts: list[Forecast]
    report: reports.Report
    by: reports.By
    rows: list[reports.Row]

    @property
    def since(self) -> Any:
        project = self.report.scope.project
        return project.created_at if project else None

    @property
    def total_row(self) -> reports.Row:
        return reports.Row("", "", self.report.totals)


class SpendViewSet(Api):
    serializer_class = SpendSerializer
    queryset = None
    filter_backends = []
    queries = {
        **dict.fromkeys(("retrieve", "breakdown_csv", "breakdown_xlsx"), ("from", "to", "by")),
        **dict.fromkeys(("entries_csv", "entries_xlsx", "focus_csv"), ("from", "to")),
    }

    @cached_property
    def scope(self) -> reports.Scope:
        if project_id := self.kwargs.get("project_id"):
            return reports.of_project(visible_project(self.person, project_id))
        return reports.of_person(self.person)

    @extend_schema(parameters=[SpendQuery], responses=SpendSerializer)
    def retrieve(self, request: Request, **path: UUID) -> Response:
        """Where the money stands, where it went, and where it is heading."""
        days, by = self._asked()
        standing = reports.standing(self.scope)
        spend = Spend(
            standing=standing,
            forecasts=reports.forecasts(standing),
            report=reports.report(self.scope, days),
            by=by,
            rows=reports.breakdown(self.scope, days, by),
        )
        return self.shown(spend, SpendSerializer)

    @extend_schema(parameters=[SpendQuery], responses=CSV)
    def breakdown_csv(self, request: Request, **path: UUID) -> StreamingHttpResponse:
        """The rows of the report."""
        return download.as_csv(reports.breakdown_table(self.scope, *self._asked()), self.scope)

    @extend_schema(parameters=[SpendQuery], responses=XLSX)
    def breakdown_xlsx(self, request: Request, **path: UUID) -> FileResponse:
        """The rows of the report, for spreadsheets."""
        return download.as_xlsx(reports.breakdown_table(self.scope, *self._asked()), self.scope)

    @extend_schema(parameters=[DaysQuery], responses=CSV)
    def entries_csv(self, request: Request, **path: UUID) -> StreamingHttpResponse:
        """The ledger: every movement of money that was booked in these days."""
        return download.as_csv(reports.entries_table(self.scope, self._asked()[0]), self.scope)

    @extend_schema(parameters=[DaysQuery], responses=XLSX)
    def entries_xlsx(self, request: Request, **path: UUID) -> FileResponse:
        """The ledger, for spreadsheets."""
        return download.as_xlsx(reports.entries_table(self.scope, self._asked()[0]), self.scope)

    @extend_schema(parameters=[DaysQuery], responses=CSV)
    def focus_csv(self, request: Request, **path: UUID) -> StreamingHttpResponse:
        """Cost and usage in the FinOps Foundation’s format, FOCUS 1.2. Its days are UTC."""
        return download.as_focus_csv(reports.focus_table(self.scope, self._asked()[0]), self.scope)

    def _asked(self) -> tuple[reports.Days, reports.By]:
        query = SpendQuery(data=self.request.query_params)
        query.is_valid(raise_exception=True)
        asked = query.validated_data
        days = reports.days(asked.get("from"), asked.get("to"), today=reports.today(self.scope.zone))
        return days, reports.By(asked["by"])
