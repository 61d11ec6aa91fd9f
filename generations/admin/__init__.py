from generations.admin import (
    approvals,
    elements,
    generations,
    lane,
    members,
    operations,
    people,
    projects,
    reconciliations,
    unassigned,
    videos,
)

__all__ = [
    "approvals",
    "elements",
    "generations",
    "lane",
    "members",
    "operations",
    "people",
    "projects",
    "reconciliations",
    "unassigned",
    "videos",
]
