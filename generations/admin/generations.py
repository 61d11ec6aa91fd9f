import uuid
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter, RangeDateFilter
from unfold.decorators import display

from generations import catalog
from generations.admin import decisions
from generations.admin.confirmation import MOST_AT_ONCE, DoneBefore, Kind, carry_out, make_plan, no_budget, told_done
from generations.admin.display import (
    LABEL_COLOURS,
    WHAT_HAPPENS,
    Evidence,
    ago,
    approval_facts,
    failure_sentence,
    offers,
    poster,
    priority_note,
    progress_bar,
    waited,
)
from generations.admin.forms import GenerationForm
from generations.admin.videos import player
from generations.catalog.endpoint import InvalidInputs
from generations.lifecycle.progress import percent
from generations.models import RUNNING, WATCHED, Generation, Priority, Status
from generations.services import costs, drafts, inputs, orders, pauses, refusals
from generations.services.costs import price
from projects import permissions
from projects.admin.access import ProjectFilter, StudioAdmin, access, person, sentence, told
from projects.admin.asking import ask, counted
from projects.admin.display import BudgetBar, amount
from projects.admin.versions import SEEN
from projects.links import NotHere
from projects.models import Budget, Project, SourceImage
from projects.money import budgets, shown
from projects.money.spend import SpendRefused

CHANGE = "admin:generations_generation_change"
LIST = "admin:generations_generation_changelist"
CONFIRM = "admin:generations_generation_confirm"
CANCELS = (
    "What was not submitted yet is stopped, costs nothing, and its reserved money is free again. It loses its place in the "
    "queue. There is no way back, but Retry makes a new one of the same inputs. What was submitted is left alone."
)
IGNORES = (
    "The provider has no cancel, so that it is made, charged and stored all the same. Reports count it as wasted, and nobody is told "
    "when it is ready. You can take this back at any time."
)
REFUSALS = (refusals.Refused, SpendRefused, PermissionDenied, InvalidInputs)


class EndpointFilter(DropdownFilter):
    title = "model"
    parameter_name = "endpoint"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(endpoint.id, endpoint.title) for endpoint in catalog.ENDPOINTS.values()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(endpoint=self.value()) if self.value() else queryset


class NeedsLookFilter(DropdownFilter):
    title = "needs a look"
    parameter_name = "needs_look"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Waits for a person")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(needs_look_since__isnull=False) if self.value() else queryset


def confirm_url(kind: Kind, pks: Iterable[Any]) -> str:
    return f"{reverse(CONFIRM, args=[kind])}?{urlencode({'ids': ','.join(map(str, pks))})}"


@admin.register(Generation)
class GenerationAdmin(StudioAdmin):
    list_display = [
        "poster_shown",
        "name",
        "status_label",
        "progress",
        "cost_shown",
        "project",
        "requested_by",
        "created",
    ]
    list_display_links = ["poster_shown", "name"]
    list_filter = [
        ProjectFilter,
        ("status", ChoicesDropdownFilter),
        EndpointFilter,
        NeedsLookFilter,
        ("created_at", RangeDateFilter),
    ]
    list_select_related = ["project", "image", "requested_by"]
    search_fields = ["prompt", "project__name", "requested_by__username", "=prediction_id"]
    actions = [
        "generate",
        "retry",
        "cancel",
        "ignore_result",
        "want_result",
        "high_priority",
        "normal_priority",
        "low_priority",
    ]

    # --- List ---------------------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("videos", "element_links")

    @display(description="Video")
    def poster_shown(self, generation: Generation) -> SafeString:
        return poster(generation)

    @display(description="Prompt")
    def name(self, generation: Generation) -> SafeString:
        note = "Needs a look" if generation.needs_look_since else priority_note(generation)
        shown = format_html('<span class="studio-prompt">{}</span>', generation)
        return format_html('{}<span class="studio-quiet">{}</span>', shown, note) if note else shown

    @display(description="Status", label=LABEL_COLOURS, ordering="status")
    def status_label(self, generation: Generation) -> str:
        return generation.get_status_display()

    @display(description="Progress")
    def progress(self, generation: Generation) -> SafeString:
        return progress_bar(generation)

    @display(description="Cost")
    def cost_shown(self, generation: Generation) -> str:
        return costs.of(generation).short

    @display(description="Created", ordering="created_at")
    def created(self, generation: Generation) -> SafeString:
        return ago(generation.created_at)

    # --- Addresses ----------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        def own(route: str, view: Callable[..., HttpResponse], name: str) -> URLPattern:
            wrapped: Callable[..., HttpResponse] = self.admin_site.admin_view(view)
            return path(route, wrapped, name=f"generations_generation_{name}")

        return [
            own("quote/", require_POST(self.quote_view), "quote"),
            own("confirm/<str:kind>/", self.confirm_view, "confirm"),
            own("<uuid:pk>/status/", self.status_view, "status"),
            own("<uuid:pk>/priority/", require_POST(self.priority_view), "priority"),
            own("<uuid:pk>/cancel/", require_POST(self.cancel_view), "cancel"),
            own("<uuid:pk>/ignore/", require_POST(self.ignore_view), "ignore"),
            own("<uuid:pk>/want/", require_POST(self.want_view), "want"),
            own("<uuid:pk>/assign/", require_POST(self.assign_view), "assign"),
            own("<uuid:pk>/not-made/", require_POST(self.not_made_view), "not_made"),
            own("<uuid:pk>/take-output/", require_POST(self.take_output_view), "take_output"),
            own("<uuid:pk>/no-video/", require_POST(self.no_video_view), "no_video"),
            own("<uuid:pk>/take-as-it-is/", require_POST(self.take_as_it_is_view), "take_as_it_is"),
            *super().get_urls(),
        ]

    def _page(self, request: HttpRequest, template: str, title: str, context: dict[str, Any]) -> HttpResponse:
        everywhere = {**self.admin_site.each_context(request), "opts": self.opts, "title": title}
        return TemplateResponse(request, f"admin/generations/generation/{template}.html", {**everywhere, **context})

    # --- The form -----------------------------------------------------------------------------------------------------

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied(
                "Making a video takes the role “Editor” or higher in a project. Ask one of its owners."
            )
        projects = access(request).open_projects("edit")
        image = self._asked_image(request, projects)
        project = image.project if image else self._asked_project(request, projects)
        if project is None:
            return self._page(request, "choose_project", "New generation", {"projects": projects})
        form = GenerationForm(
            project, person(request), request.POST or None, initial={"image": str(image.pk) if image else ""}
        )
        if request.method == "POST" and form.is_valid():
            try:
                made = drafts.create(
                    project,
                    endpoint=form.model.id,
                    inputs=form.inputs,
                    tags=form.cleaned_data["tags"],
                    priority=Priority(int(form.cleaned_data["priority"])),
                    by=person(request),
                )
            except REFUSALS as refusal:
                form.add_error(None, sentence(refusal))
            else:
                return self._saved(request, made)
        return self._form_page(request, form, f"New generation in {project}", {"projects": projects})

    def _asked_image(self, request: HttpRequest, projects: QuerySet[Project]) -> SourceImage | None:
        pk = request.GET.get("image", "")
        return SourceImage.objects.filter(project__in=projects, pk=pk).first() if _is_uuid(pk) else None

    def _asked_project(self, request: HttpRequest, projects: QuerySet[Project]) -> Project | None:
        pk = request.GET.get("project", "")
        if pk:
            project = projects.filter(pk=pk).first() if _is_uuid(pk) else None
            if project is None:
                raise NotHere("This project doesn’t exist, or you can’t make videos in it.")
            return project
        two = list(projects[:2])
        return two[0] if len(two) == 1 else None

    def _form_page(
        self, request: HttpRequest, form: GenerationForm, title: str, context: dict[str, Any]
    ) -> HttpResponse:
        return self._page(
            request,
            "form",
            title,
            {
                **context,
                **self._quote(request, form),
                "form": form,
                "original": context.get("generation"),
            },
        )

    def _saved(self, request: HttpRequest, generation: Generation) -> HttpResponse:
        if "_generate" in request.POST:
            return HttpResponseRedirect(confirm_url(Kind.GENERATE, [generation.pk]))
        messages.success(request, "Saved as a draft. Nothing is paid until you generate it.")
        return HttpResponseRedirect(reverse(CHANGE, args=[generation.pk]))

    def _quote(self, request: HttpRequest, form: GenerationForm) -> dict[str, Any]:
        """The price of what is in the form, complete or not, and what it leaves of the budgets."""
        project, needed = form.project, form.price
        figures = budgets.figures(Budget.objects.matching(project.pk, person(request).pk))
        has_budget = budgets.has_own(each.budget for each in figures)
        return {
            "project": project,
            "price": amount(needed) if needed is not None else "",
            "bars": [BudgetBar(each, needed or 0) for each in figures],
            "no_budget": None if has_budget else no_budget(project, person(request)),
            "existing": form.quote.existing if form.quote else [],
        }

    def quote_view(self, request: HttpRequest) -> HttpResponse:
        project = self._asked_project(request, access(request).projects("edit"))
        if project is None:
            raise NotHere("Say which project: ?project=<id>.")
        form = GenerationForm(project, person(request), request.POST)
        form.is_valid()
        return TemplateResponse(request, "admin/generations/generation/quote.html", self._quote(request, form))

    def _suggested(self, request: HttpRequest) -> dict[str, Any]:
        """A length that a refusal has offered; what is sent is compared with what the draft has."""
        seconds = _number(request.GET.get("duration")) if request.method == "GET" else None
        return {} if seconds is None else {"duration": seconds}

    def _edit(self, request: HttpRequest, generation: Generation) -> HttpResponse:
        ours = {name: getattr(generation, name) for name in ("endpoint", "shot_type", "tags", "priority")}
        initial = {**ours, **inputs.inputs_of(generation), SEEN: generation.version, **self._suggested(request)}
        form = GenerationForm(
            generation.project, person(request), request.POST or None, initial=initial, draft=generation
        )
        form.fields["endpoint"].disabled = True
        if request.method == "POST" and self._edited(request, form, generation):
            return self._saved(request, generation)
        return self._form_page(
            request,
            form,
            str(generation),
            {
                "generation": generation,
                **self._buttons(request, generation),
                **approval_facts(generation, person(request)),
            },
        )

    def _edited(self, request: HttpRequest, form: GenerationForm, generation: Generation) -> bool:
        """Whether it was saved; what was refused is told in the form."""
        try:
            # The form locks the draft, so that nobody changes it between the check and the save.
            with transaction.atomic():
                if form.is_valid():
                    drafts.update(
                        generation,
                        inputs=form.inputs,
                        others_too=True,
                        tags=form.cleaned_data["tags"],
                        priority=Priority(int(form.cleaned_data["priority"])),
                        by=person(request),
                    )
                    return True
        except REFUSALS as refusal:
            form.add_error(None, sentence(refusal))
        return False

    # --- The page of one ----------------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        generation = self.get_or_404(request, object_id)
        may_edit = self.has_change_permission(request, generation) and not generation.project.archived_at
        withdraws = generation.status == Status.AWAITING_APPROVAL and "edit" in request.GET
        if may_edit and (generation.status == Status.DRAFT or withdraws):
            return self._edit(request, generation)
        if request.method == "POST":
            permissions.require(person(request), "edit", generation.project)
            messages.error(
                request, f"Only a draft can be changed; this one is {generation.get_status_display().lower()}."
            )
            return HttpResponseRedirect(request.path)
        return self._page(request, "page", str(generation), self._shown(request, generation))

    def _buttons(self, request: HttpRequest, generation: Generation) -> dict[str, Any]:
        who, open_project = access(request), generation.project.archived_at is None
        return {
            "offers": offers(
                generation,
                may_edit=who.may("edit", generation.project_id),
                may_spend=who.may("spend", generation.project_id) and open_project,
            ),
            "generate_url": confirm_url(Kind.GENERATE, [generation.pk]),
            "retry_url": confirm_url(Kind.RETRY, [generation.pk]),
        }

    def _shown(self, request: HttpRequest, generation: Generation) -> dict[str, Any]:
        label = generation.get_status_display()
        return {
            **self._buttons(request, generation),
            "original": generation,
            "generation": generation,
            "project": generation.project,
            "model": catalog.get(generation.endpoint).title,
            "status": label,
            "colour": LABEL_COLOURS[label],
            "what_happens": WHAT_HAPPENS[Status(generation.status)],
            "held_up": pauses.what_holds_up(generation),
            "priorities": Priority.choices,
            "is_running": generation.status in RUNNING,
            "is_watched": generation.status in WATCHED,
            "progress": percent(generation),
            "waited": waited(generation),
            "failure": failure_sentence(generation),
            "price": shown(price(generation)),
            "quoted": generation.quote,
            "cost": costs.of(generation),
            "players": [player(video) for video in generation.videos.all()],
            "elements": [link.element for link in generation.element_links.select_related("element")],
            "events": generation.events.select_related("by"),
            "evidence": [Evidence(exchange) for exchange in generation.exchanges.all()],
            "retries": generation.retries.select_related("requested_by"),
            **approval_facts(generation, person(request)),
            **decisions.facts(generation, person(request)),
            **decisions.puzzle(generation, person(request)),
            **decisions.facts_of_what_came(generation, person(request)),
        }

    def status_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        generation = self.get_or_404(request, pk)
        return JsonResponse(
            {
                "status": generation.status,
                "label": generation.get_status_display(),
                "progress": percent(generation),
                "is_running": generation.status in RUNNING,
            }
        )

    # --- Money --------------------------------------------------------------------------------------------------------

    def confirm_view(self, request: HttpRequest, kind: str) -> HttpResponse:
        if kind not in set(Kind):
            raise NotHere("There is nothing of this kind to confirm.")
        chosen = self._chosen(request)
        if not chosen:
            raise NotHere("None of these generations exists, or they are in projects that you are not a member of.")
        question = ""
        if request.method == "POST":
            try:
                done = carry_out(
                    Kind(kind),
                    chosen,
                    by=person(request),
                    confirm="confirm" in request.POST,
                    retries_seen=_number(request.POST.get("retries_seen")) or 0,
                    at_most=_number(request.POST.get("total_seen")),
                )
            except DoneBefore as before:
                messages.info(request, str(before))
                return self._to(chosen)
            except refusals.NeedsConfirmation as refusal:
                question = str(refusal)
            except REFUSALS as refusal:
                messages.error(request, sentence(refusal))
            else:
                for text in told_done(done):
                    messages.success(request, text)
                for text in orders.soft_budget_warnings(done):
                    messages.warning(request, text)
                return self._to(done)
            # What was refused was rolled back in the database, not in these objects.
            chosen = self._chosen(request)
        plan = make_plan(Kind(kind), chosen, by=person(request))
        return self._page(
            request,
            "confirm",
            "Confirm",
            {
                "plan": plan,
                "question": question,
                "chosen": chosen,
                "drafts": [generation for generation in chosen if generation.status == Status.DRAFT],
                "back": self._back(chosen),
            },
        )

    def _chosen(self, request: HttpRequest) -> list[Generation]:
        ids = [pk for pk in request.GET.get("ids", "").split(",") if _is_uuid(pk)][:MOST_AT_ONCE]
        rows = self.get_queryset(request).select_related("project", "image", "requested_by")
        return list(rows.filter(pk__in=ids).order_by("created_at", "pk"))

    def _to(self, generations: list[Generation]) -> HttpResponse:
        return HttpResponseRedirect(self._back(generations))

    def _back(self, generations: list[Generation]) -> str:
        return reverse(CHANGE, args=[generations[0].pk]) if len(generations) == 1 else reverse(LIST)

    @admin.action(description="Generate…", permissions=["change"])
    def generate(self, request: HttpRequest, queryset: QuerySet[Generation]) -> HttpResponse | None:
        return self._confirm(request, Kind.GENERATE, queryset)

    @admin.action(description="Retry…", permissions=["change"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Generation]) -> HttpResponse | None:
        return self._confirm(request, Kind.RETRY, queryset)

    def _confirm(self, request: HttpRequest, kind: Kind, queryset: QuerySet[Generation]) -> HttpResponse | None:
        pks = list(queryset.values_list("pk", flat=True)[: MOST_AT_ONCE + 1])
        if len(pks) > MOST_AT_ONCE:
            return told(request, "", [f"Choose at most {MOST_AT_ONCE} at once."])
        return HttpResponseRedirect(confirm_url(kind, pks))

    # --- What costs nothing -------------------------------------------------------------------------------------------

    @admin.action(description="Cancel (what was not submitted yet)", permissions=["change"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Generation]) -> HttpResponse | None:
        chosen = counted(len(queryset), "generation")
        question = ask(request, f"Cancel {chosen}?", CANCELS, yes=f"Cancel {chosen}", things=queryset)
        return question or self._each(request, queryset, orders.cancel, "Cancelled")

    @admin.action(description="Ignore the result (of what is on its way)", permissions=["change"])
    def ignore_result(self, request: HttpRequest, queryset: QuerySet[Generation]) -> HttpResponse | None:
        title = f"Ignore the results of {counted(len(queryset), 'generation')}?"
        question = ask(request, title, IGNORES, yes="Ignore the results", things=queryset)
        return question or self._each(request, queryset, drafts.ignore_result, "Ignoring the result of")

    @admin.action(description="Want the result after all", permissions=["change"])
    def want_result(self, request: HttpRequest, queryset: QuerySet[Generation]) -> HttpResponse | None:
        return self._each(request, queryset, drafts.want_result, "Wanted after all:")

    def _each(
        self, request: HttpRequest, queryset: QuerySet[Generation], do: Callable[..., None], done: str
    ) -> HttpResponse | None:
        count, refused = 0, []
        for generation in queryset.select_related("project"):
            try:
                do(generation, by=person(request))
                count += 1
            except REFUSALS as refusal:
                refused.append(f"“{generation}”: {sentence(refusal)}")
        text = f"{done} {count} {'generation' if count == 1 else 'generations'}." if count else ""
        return told(request, text, refused)

    @admin.action(description="Priority: high", permissions=["change"])
    def high_priority(self, request: HttpRequest, queryset: QuerySet[Generation]) -> HttpResponse | None:
        return self._prioritise(request, queryset, Priority.HIGH)

    @admin.action(description="Priority: normal", permissions=["change"])
    def normal_priority(self, request: HttpRequest, queryset: QuerySet[Generation]) -> HttpResponse | None:
        return self._prioritise(request, queryset, Priority.NORMAL)

    @admin.action(description="Priority: low", permissions=["change"])
    def low_priority(self, request: HttpRequest, queryset: QuerySet[Generation]) -> HttpResponse | None:
        return self._prioritise(request, queryset, Priority.LOW)

    def _prioritise(
        self, request: HttpRequest, queryset: QuerySet[Generation], priority: Priority
    ) -> HttpResponse | None:
        do = partial(drafts.prioritise, priority=priority)
        return self._each(request, queryset, do, f"{priority.label} priority for")

    def priority_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        number = {str(value): value for value in Priority.values}.get(request.POST.get("priority", ""))
        if number is None:
            raise NotHere("There is no such priority.")
        priority = Priority(number)
        do = partial(drafts.prioritise, priority=priority)
        return self._do(request, pk, do, f"{priority.label} priority among what its project has queued.")

    def cancel_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        generation = self.get_or_404(request, pk)
        question = ask(request, f"Cancel “{generation}”?", CANCELS, yes="Cancel it")
        return question or self._do(request, pk, orders.cancel, "Cancelled. It cost nothing.")

    def ignore_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        generation = self.get_or_404(request, pk)
        question = ask(request, f"Ignore the result of “{generation}”?", IGNORES, yes="Ignore the result")
        return question or self._do(
            request,
            pk,
            drafts.ignore_result,
            "Marked as not wanted. The video is stored all the same, because it is paid.",
        )

    def want_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        return self._do(request, pk, drafts.want_result, "Wanted after all.")

    def assign_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        generation = self.get_or_404(request, pk)
        decisions.assign(request, generation)
        return HttpResponseRedirect(reverse(CHANGE, args=[generation.pk]))

    def take_as_it_is_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        generation = self.get_or_404(request, pk)
        decisions.take_as_it_is(request, generation)
        return HttpResponseRedirect(reverse(CHANGE, args=[generation.pk]))

    def not_made_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        generation = self.get_or_404(request, pk)
        decisions.not_made(request, generation)
        return HttpResponseRedirect(reverse(CHANGE, args=[generation.pk]))

    def take_output_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        generation = self.get_or_404(request, pk)
        decisions.take_output(request, generation)
        return HttpResponseRedirect(reverse(CHANGE, args=[generation.pk]))

    def no_video_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        generation = self.get_or_404(request, pk)
        decisions.end_without_video(request, generation)
        return HttpResponseRedirect(reverse(CHANGE, args=[generation.pk]))

    def _do(self, request: HttpRequest, pk: Any, do: Callable[..., None], done: str) -> HttpResponse:
        generation = self.get_or_404(request, pk)
        try:
            do(generation, by=person(request))
            messages.success(request, done)
        except REFUSALS as refusal:
            messages.error(request, sentence(refusal))
        return HttpResponseRedirect(reverse(CHANGE, args=[generation.pk]))


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else None
