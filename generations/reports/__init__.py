"""Where the money stands and where it went: figures, breakdowns, exports."""

from generations.reports.breakdown import Amounts, By, Report, Row, breakdown, report
from generations.reports.exports import Table, breakdown_table, csv_lines, csv_with_mark, entries_table, xlsx_file
from generations.reports.figures import Standing, forecasts, member_budgets, project_spend, standing, unconfirmed
from generations.reports.focus import focus_table
from generations.reports.scope import (
    Days,
    Scope,
    days,
    last_30_days,
    last_month,
    of_person,
    of_project,
    this_month,
    today,
)

__all__ = [
    "Amounts",
    "By",
    "Days",
    "Report",
    "Row",
    "Scope",
    "Standing",
    "Table",
    "breakdown",
    "breakdown_table",
    "csv_lines",
    "csv_with_mark",
    "days",
    "entries_table",
    "focus_table",
    "forecasts",
    "last_30_days",
    "last_month",
    "member_budgets",
    "of_person",
    "of_project",
    "project_spend",
    "report",
    "standing",
    "this_month",
    "today",
    "unconfirmed",
    "xlsx_file",
]
