from generations.admin import elements, generations, lane, people, projects, videos

__all__ = ["elements", "generations", "lane", "people", "projects", "videos"]
