from generations.admin import approvals, elements, generations, lane, people, projects, reconciliations, videos

__all__ = ["approvals", "elements", "generations", "lane", "people", "projects", "reconciliations", "videos"]
