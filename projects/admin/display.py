"""How amounts, budgets, pictures and times look in the admin; every text is escaped."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models.fields.files import FieldFile
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminTextInputWidget

from projects.models import Enforcement
from projects.money import NotMoney, shown, to_dollars, to_micros
from projects.money.budgets import Figures
from projects.tags import normalised

NOTHING = "–"


def amount(micros: int | None) -> str:
    return NOTHING if micros is None else shown(micros)


def change(micros: int) -> str:
    """A movement in a ledger: `+$2.10`, `-$2.10`, or a dash."""
    return NOTHING if not micros else f"{'+' if micros > 0 else ''}{shown(micros)}"


def size(count: int) -> str:
    """Bytes as people read them: `4.2 MB`."""
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} bytes"


def thumbnail(file: FieldFile | None, alt: str) -> SafeString:
    if not file:
        return format_html('<span class="studio-thumb studio-thumb-empty material-symbols-outlined">{}</span>', "image")
    return format_html('<img class="studio-thumb" loading="lazy" src="{}" alt="{}">', file.url, alt)


def link(name: str, pk: object, text: object) -> SafeString:
    return format_html('<a class="text-link" href="{}">{}</a>', reverse(name, args=[pk]), text)


def day(moment: datetime | None, budget_zone: Any = None) -> str:
    return f"{moment.astimezone(budget_zone):%-d %B %Y}" if moment else ""


@dataclass(frozen=True)
class BudgetBar:
    """A budget's present period as a bar; `needed` (micro-dollars) is what somebody is about to spend from it."""

    figures: Figures
    needed: int = 0

    @property
    def title(self) -> str:
        budget = self.figures.budget
        period = budget.get_period_display()
        return f"{budget.scope}, {period[0].lower()}{period[1:]}"

    @property
    def is_soft(self) -> bool:
        return self.figures.budget.enforcement == Enforcement.SOFT

    @property
    def after(self) -> int:
        return self.figures.free - self.needed

    @property
    def refuses(self) -> bool:
        return self.needed > 0 and self.after < 0 and not self.is_soft

    @property
    def limit_shown(self) -> str:
        return shown(self.figures.limit)

    @property
    def topped_up_shown(self) -> str:
        """Empty when no top-up lasts."""
        return shown(self.figures.topped_up) if self.figures.topped_up else ""

    @property
    def spent_shown(self) -> str:
        return shown(self.figures.spent, ROUND_CEILING)

    @property
    def reserved_shown(self) -> str:
        return shown(self.figures.reserved, ROUND_CEILING)

    @property
    def free_shown(self) -> str:
        return shown(self.figures.free, ROUND_FLOOR)

    @property
    def is_over(self) -> bool:
        return self.figures.free < 0

    @property
    def over_shown(self) -> str:
        return shown(-self.figures.free, ROUND_CEILING)

    @property
    def after_shown(self) -> str:
        return shown(self.after, ROUND_FLOOR)

    @property
    def missing_shown(self) -> str:
        return shown(-self.after, ROUND_CEILING)

    @property
    def ends_on(self) -> str:
        return day(self.figures.ends_at, self.figures.budget.time_zone()) if self.figures.ends_at else ""

    @property
    def spent_percent(self) -> int:
        return self._percent(self.figures.spent)

    @property
    def reserved_percent(self) -> int:
        return min(self._percent(self.figures.reserved), 100 - self.spent_percent)

    @property
    def needed_percent(self) -> int:
        return min(self._percent(self.needed), 100 - self.spent_percent - self.reserved_percent)

    def _percent(self, micros: int) -> int:
        """What there is of it is always seen, be it ever so little."""
        if micros <= 0:
            return 0
        return max(1, min(100, 100 * micros // self.figures.limit)) if self.figures.limit else 100


def bars(figures: Iterable[Figures]) -> list[BudgetBar]:
    return [BudgetBar(each) for each in figures]


class DollarsField(forms.CharField):
    """An amount typed in dollars (`1,250.50`, `$10`), as exact micro-dollars; None for nothing where it is not required."""

    widget = UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "placeholder": "10.00", "class": "studio-short"})

    def prepare_value(self, value: Any) -> Any:
        return f"{to_dollars(value):f}" if isinstance(value, int) else value

    def clean(self, value: Any) -> int | None:
        typed = super().clean(value).strip().removeprefix("$").replace(",", "").strip()
        if not typed and not self.required:
            return None
        if not typed.isascii() or not typed.replace(".", "", 1).isdigit():
            raise ValidationError("Type an amount in dollars, such as 10 or 1,250.50; zero or more.")
        try:
            return to_micros(Decimal(typed))
        except NotMoney as error:
            raise ValidationError(str(error)) from error

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.clean(data) != initial)
        except ValidationError:
            return True


class TagsField(forms.CharField):
    """Words between commas, as a list without repetitions."""

    widget = UnfoldAdminTextInputWidget(attrs={"placeholder": "autumn, product shots"})

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[str]:
        return normalised(super().clean(value).split(","))

    def has_changed(self, initial: Any, data: Any) -> bool:
        return self.clean(data) != (initial or [])
