from projects.admin import budgets, ledger, members, source_images

__all__ = ["budgets", "ledger", "members", "source_images"]
