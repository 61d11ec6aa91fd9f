"""`manage.py check_provider` tells what is wrong with the provider's settings, by calls that cost nothing."""

from collections.abc import Callable
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from generations import provider
from tests.sandbox import SandboxControl

SECRET = "whsec_of-somebody-else"
KEY = "a-key-that-nobody-may-see"

# How the calls went is kept for all processes.
pytestmark = pytest.mark.django_db


@pytest.fixture
def sandbox(request: pytest.FixtureRequest, make_sandbox: Callable[..., object]) -> object:
    """With the options that a test gives it."""
    return make_sandbox(**getattr(request, "param", {}))


def check() -> tuple[bool, str]:
    """Whether all is right, and what was printed."""
    out = StringIO()
    try:
        call_command("check_provider", stdout=out)
    except CommandError as error:
        return error.returncode != 1, f"{out.getvalue()}{error}"
    return True, out.getvalue()


def test_a_sandbox_as_it_is_passes(wavespeed: SandboxControl) -> None:
    is_right, text = check()

    assert is_right
    assert [line[:5] for line in text.splitlines()] == ["ok   "] * 6 + ["All i"]
    assert "Key and balance: The key is accepted; $1,000.00 is left." in text
    assert "3 s $1.26, 15 s $6.30: the provider's prices are the catalogue's." in text
    assert "Webhook address: None is set: the studio polls, which is enough." in text
    assert wavespeed.posts()["count"] == 0
    assert wavespeed.bill()["rows"] == []


def test_webhooks_are_checked_where_they_are_used(wavespeed: SandboxControl, settings: object) -> None:
    settings.WAVESPEED_WEBHOOK_BASE_URL = "http://127.0.0.1:8000"

    assert "Webhook secret: Told by the provider." in check()[1]

    settings.WAVESPEED_WEBHOOK_SECRET = provider.client().webhook_secret()
    is_right, text = check()
    assert is_right
    assert "Webhook secret: As the provider's." in text
    assert settings.WAVESPEED_WEBHOOK_SECRET not in text


@pytest.mark.parametrize(
    ("fault", "parameters", "sentence"),
    [
        ("free_401", {}, "Key and balance: The provider refuses the key. Check WAVESPEED_API_KEY."),
        ("free_500", {"route": "balance"}, "Key and balance: No answer that can be used"),
        ("free_500", {"route": "models"}, "Models: No answer that can be used"),
        ("free_garbage", {"route": "price"}, "Price of Kling Video O3 4K: image to video: No answer that can be used"),
        ("quote_price", {"factor": 2.0}, "3 s cost $1.26 by the catalogue, and $2.52 at the provider."),
        ("quote_price", {"price": 1.27}, "3 s cost $1.26 by the catalogue, and $1.27 at the provider."),
    ],
)
def test_what_is_wrong_is_told_and_the_exit_code_says_so(
    fault: str, parameters: dict[str, object], sentence: str, wavespeed: SandboxControl, settings: object
) -> None:
    settings.WAVESPEED_API_KEY = KEY
    provider.client.cache_clear()
    wavespeed.arm(fault, times=None, **parameters)

    is_right, text = check()

    assert not is_right
    assert sentence in text
    assert KEY not in text


def test_another_webhook_secret_is_told_and_neither_is_shown(wavespeed: SandboxControl, settings: object) -> None:
    settings.WAVESPEED_WEBHOOK_SECRET = SECRET

    is_right, text = check()

    assert not is_right
    assert "WAVESPEED_WEBHOOK_SECRET is not the provider's" in text
    assert SECRET not in text
    assert provider.client().webhook_secret() not in text


@pytest.mark.parametrize("theirs_is", ["the old one", "the new one"])
def test_while_the_webhook_secret_is_changed_either_of_two_may_be_the_providers(
    theirs_is: str, wavespeed: SandboxControl, settings: object
) -> None:
    theirs = provider.client().webhook_secret()
    both = [theirs, SECRET] if theirs_is == "the old one" else [SECRET, theirs]
    settings.WAVESPEED_WEBHOOK_SECRET = " ".join(both)

    is_right, text = check()

    assert is_right
    assert (
        "Webhook secret: One of the 2 that are set is the provider's, so its webhooks are accepted. "
        "When the change there is done, leave the new one alone." in text
    )
    assert not any(secret in text for secret in both)


def test_a_webhook_secret_is_the_same_without_its_prefix(wavespeed: SandboxControl, settings: object) -> None:
    settings.WAVESPEED_WEBHOOK_SECRET = provider.client().webhook_secret().removeprefix("whsec_")

    assert "Webhook secret: As the provider's." in check()[1]


def test_two_webhook_secrets_of_which_none_is_the_providers_are_told(
    wavespeed: SandboxControl, settings: object
) -> None:
    settings.WAVESPEED_WEBHOOK_SECRET = f"{SECRET} {SECRET}-too"

    is_right, text = check()

    assert not is_right
    assert "WAVESPEED_WEBHOOK_SECRET has 2 secrets, and none of them is the provider's" in text
    assert SECRET not in text


@pytest.mark.parametrize("sandbox", [{"balance": 5}], indirect=True)
def test_a_balance_that_pays_for_no_video_is_told(wavespeed: SandboxControl) -> None:
    is_right, text = check()

    assert not is_right
    assert "$5.00 is too little for the longest video. Top the account up." in text


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("http://studio.example.com", "is not https"),
        ("https://10.0.0.7", "The provider can't reach https://10.0.0.7"),
        ("https://localhost:8000", "The provider can't reach https://localhost:8000"),
    ],
)
def test_an_address_that_the_provider_can_not_reach_is_told(address: str, sentence: str, settings: object) -> None:
    """The provider itself is out of reach here: everything is told, none of it ends the command."""
    settings.WAVESPEED_BASE_URL = "https://wavespeed.invalid"
    settings.WAVESPEED_WEBHOOK_BASE_URL = address
    settings.WAVESPEED_DEADLINE = settings.WAVESPEED_CONNECT_TIMEOUT = 0.2
    provider.client.cache_clear()

    is_right, text = check()

    provider.client.cache_clear()
    assert not is_right
    assert sentence in text
    assert text.count("No answer that can be used") == 4
