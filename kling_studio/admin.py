"""Takes other packages' raw pages out of the admin; importing each first keeps it from registering later."""

import django.contrib.auth.admin  # noqa: F401
import django_dramatiq.admin  # noqa: F401
import knox.admin  # noqa: F401
from django.contrib import admin
from django.contrib.auth.models import Group
from django_dramatiq.models import Task
from knox.models import AuthToken

# Tasks: that page shows tracebacks unescaped (stored XSS). Tokens: it edits whose a token is. Groups: roles are members'.
for model in (Task, AuthToken, Group):
    admin.site.unregister(model)
