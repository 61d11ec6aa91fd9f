"""Forms that people see before they are in the admin, dressed as the admin's own."""

from typing import Any

from django import forms
from django.contrib.auth.forms import PasswordResetForm, SetPasswordForm, UserCreationForm
from django.contrib.auth.models import User
from django.db import transaction
from unfold.forms import AdminOwnPasswordChangeForm, AdminPasswordChangeForm
from unfold.widgets import BASE_INPUT_CLASSES, UnfoldAdminSelectWidget

from projects.people import tokens


class Dressed(forms.BaseForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.widget.attrs["class"] = " ".join(BASE_INPUT_CLASSES)


class NewMemberForm(Dressed, UserCreationForm):
    """An invitation for anyone asks for the address; any other was mailed to it."""

    email = forms.EmailField(label="E-mail address", help_text="For a forgotten password, and for what you are told.")

    class Meta(UserCreationForm.Meta):
        fields = ("username", "email")

    def __init__(self, *args: Any, asks_address: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not asks_address:
            del self.fields["email"]
        self.fields["username"].help_text = "Letters, digits and @ . + - _"
        self.fields["password2"].label, self.fields["password2"].help_text = "Password again", ""


class AddressForm(Dressed, PasswordResetForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].label = "E-mail address"
        self.fields["email"].widget.attrs["autofocus"] = True


END, KEEP = "end", "keep"


class AsksForTokens(forms.BaseForm):
    """A new password asks what becomes of the API tokens, which it does not end by itself; not told, they end."""

    user: User

    def ask_for_tokens(self) -> None:
        """A question only where there are any."""
        known = tokens.own(self.user)
        if not known:
            return
        listed = ", ".join(f"{each.begins_with}… (made {each.created_at:%-d %B %Y})" for each in known)
        self.fields["tokens"] = forms.ChoiceField(
            label="API tokens",
            required=False,
            initial=END,
            choices=[(END, "End them"), (KEEP, "Let them go on working")],
            widget=UnfoldAdminSelectWidget(),
            help_text=f"{len(known)} work now: {listed}. Once they have ended, whatever uses them is no longer let in.",
        )

    def set_password_and_save(self, user: User, *args: Any, **kwargs: Any) -> User:
        """Writes the password alone: whatever else somebody changes at this moment stays."""
        super().set_password_and_save(user, *args, **{**kwargs, "commit": False})  # type: ignore[misc]
        with transaction.atomic():
            user.save(update_fields=["password"])
            if self.cleaned_data.get("tokens") != KEEP:
                tokens.revoke_all(user)
        return user


class OwnPasswordForm(AsksForTokens, AdminOwnPasswordChangeForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ask_for_tokens()


class SomebodysPasswordForm(AsksForTokens, AdminPasswordChangeForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ask_for_tokens()


class NewPasswordForm(AsksForTokens, Dressed, SetPasswordForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["new_password2"].label, self.fields["new_password2"].help_text = "New password again", ""
        self.ask_for_tokens()
