"""Who may do what: the one place that the admin and the API ask."""

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet

from projects.models import Budget, Membership, Project, Role

STUDIO_OWNERS = "Studio owners"

# The least role that may do it. Project budgets, top-ups and new projects are the studio owners' alone.
LEAST_ROLE = {
    "view": Role.VIEWER,
    "edit": Role.EDITOR,
    "spend": Role.EDITOR,
    "approve": Role.APPROVER,
    "manage": Role.OWNER,
}
RANK = {role: rank for rank, role in enumerate(Role)}

if TYPE_CHECKING:
    Person = User | AnonymousUser


def is_studio_owner(user: "Person") -> bool:
    """Studio owners see every project, make projects, and set studio and project budgets; superusers are among them."""
    return user.is_active and (user.is_superuser or user.groups.filter(name=STUDIO_OWNERS).exists())


def studio_owners() -> QuerySet[User]:
    owners = User.objects.filter(Q(is_superuser=True) | Q(groups__name=STUDIO_OWNERS), is_active=True)
    return owners.distinct().order_by("username")


def who_may(action: str, project: Project) -> QuerySet[User]:
    """Everybody who may do it in the project: its members by their roles, and studio owners."""
    able = [role for role in Role if RANK[role] >= RANK[LEAST_ROLE[action]]]
    members = Membership.objects.filter(project=project, is_active=True, role__in=able).values("user_id")
    people = User.objects.filter(Q(pk__in=members, is_active=True) | Q(pk__in=studio_owners().values("pk")))
    return people.order_by("username")


def visible(rows: QuerySet[Any], user: "Person", path: str = "project") -> QuerySet[Any]:
    """Those of `rows` whose project, at `path`, `user` may see. For studio owners the projects are not even looked at."""
    if is_studio_owner(user):
        return rows.filter(**{f"{path.split('__')[0]}__isnull": False})
    return rows.filter(**{f"{path}__in": visible_projects(user)})


def visible_projects(user: "Person") -> QuerySet[Project]:
    """The projects, archived ones too, that `user` may see; to everybody else they do not exist."""
    if is_studio_owner(user):
        return Project.objects.all()
    return Project.objects.filter(pk__in=_memberships(user).values("project_id"))


def projects_where(user: "Person", action: str) -> QuerySet[Project]:
    """The projects, archived ones too, in which `user` may do it."""
    if is_studio_owner(user):
        return Project.objects.all()
    able = [role for role in Role if RANK[role] >= RANK[LEAST_ROLE[action]]]
    return Project.objects.filter(pk__in=_memberships(user).filter(role__in=able).values("project_id"))


def roles(user: "Person") -> dict[uuid.UUID, Role]:
    """The role of `user` in each project that they are a member of."""
    return {project_id: Role(role) for project_id, role in _memberships(user).values_list("project_id", "role")}


@dataclass(frozen=True)
class Access:
    """What one person may do, read once: for pages and lists that ask of many projects."""

    is_studio_owner: bool
    roles: dict[uuid.UUID, Role]

    @classmethod
    def of(cls, user: "Person") -> "Access":
        return cls(is_studio_owner(user), roles(user))

    def may(self, action: str, project_id: uuid.UUID | None) -> bool:
        """Whether they may `view`, `edit`, `spend` in, `approve` in or `manage` it. What belongs to no project is the studio owners'."""
        least = RANK[LEAST_ROLE[action]]
        if self.is_studio_owner:
            return True
        role = self.roles.get(project_id) if project_id else None
        return role is not None and RANK[role] >= least

    def may_somewhere(self, action: str) -> bool:
        return self.is_studio_owner or any(self.may(action, project_id) for project_id in self.roles)

    def projects(self, action: str) -> QuerySet[Project]:
        """The projects, archived ones too, in which they may do it."""
        if self.is_studio_owner:
            return Project.objects.all()
        return Project.objects.filter(pk__in=[project_id for project_id in self.roles if self.may(action, project_id)])

    def open_projects(self, action: str) -> QuerySet[Project]:
        return self.projects(action).filter(archived_at=None)


def _memberships(user: "Person") -> QuerySet[Membership]:
    """What counts; somebody who is switched off, in the studio or in a project, has no role there."""
    if user.pk is None or not user.is_active:
        return Membership.objects.none()
    return Membership.objects.filter(user_id=user.pk, is_active=True)


def may(user: "Person", action: str, project: Project) -> bool:
    return Access.of(user).may(action, project.pk)


def require(user: "Person", action: str, project: Project) -> None:
    """Raises `PermissionDenied` with a sentence that says which role it takes."""
    if not may(user, action, project):
        raise PermissionDenied(
            f"This takes the role “{LEAST_ROLE[action].label}” or higher in {project}; "
            "an owner of the project can give it to you."
        )


def require_now(user: User, action: str, project: Project) -> None:
    """The same under a lock that was waited for: whoever was switched off meanwhile is refused too."""
    require(User.objects.get(pk=user.pk), action, project)


def require_studio_owner_now(user: User, what: str) -> None:
    require_studio_owner(User.objects.get(pk=user.pk), what)


def require_studio_owner(user: "Person", what: str) -> None:
    if not is_studio_owner(user):
        raise PermissionDenied(f"Only studio owners {what}.{who_they_are(user)}")


def who_they_are(user: "Person", they_are: str = "They are") -> str:
    """A sentence that names the studio owners; who is in no project learns nobody's name."""
    return f" {they_are}: {names_of_studio_owners()}." if visible_projects(user).exists() else ""


def may_set_budget(user: "Person", project: Project | None, member: User | None) -> bool:
    """Studio owners set all budgets, a project's owners its other members': nobody moves their own limit."""
    if is_studio_owner(user):
        return True
    return project is not None and member is not None and member.pk != user.pk and may(user, "manage", project)


def may_change_budget(user: "Person", budget: Budget) -> bool:
    return may_set_budget(user, budget.project, budget.user)


def names_of_studio_owners() -> str:
    return ", ".join(owner.get_full_name() or owner.get_username() for owner in studio_owners()) or "nobody yet"
