from projects.admin import budgets, ledger, members, notifications, source_images, studio

__all__ = ["budgets", "ledger", "members", "notifications", "source_images", "studio"]
