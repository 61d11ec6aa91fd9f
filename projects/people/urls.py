from django.urls import path

from projects.people import views

urlpatterns = [
    path("join/<str:token>/", views.Join.as_view(), name="join"),
    # The admin's login page looks for the name `admin_password_reset`; Django's own views for the other three.
    path("accounts/password-reset/", views.PasswordReset.as_view(), name="admin_password_reset"),
    path("accounts/password-reset/sent/", views.PasswordResetDone.as_view(), name="password_reset_done"),
    path(
        "accounts/password-reset/<uidb64>/<token>/",
        views.PasswordResetConfirm.as_view(),
        name="password_reset_confirm",
    ),
    path("accounts/password-reset/done/", views.PasswordResetComplete.as_view(), name="password_reset_complete"),
]
