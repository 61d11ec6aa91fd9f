"""Which of the provider's calls fail, and since when, whichever process made them."""

import pytest

from generations import provider
from generations.models import ProviderCall
from generations.provider import calls
from generations.wavespeed import errors
from tests.sandbox import SandboxControl


def test_a_call_fails_from_its_first_failure_until_another_process_had_an_answer(
    wavespeed: SandboxControl, db: None
) -> None:
    wavespeed.arm("free_garbage", times=3, route="balance")
    assert [provider.balance() for _ in range(2)] == [None, None]
    call = ProviderCall.objects.get(route="/balance")
    assert call.error == "The answer can't be understood: HTTP 200."
    since = call.failing_since
    assert provider.balance() is None
    call.refresh_from_db()
    assert call.failing_since == since
    assert [name for name, _ in calls.failing()] == ["The balance"]

    # Another process, with a client of its own.
    provider.client.cache_clear()
    assert provider.balance() is not None

    call.refresh_from_db()
    assert (call.failing_since, call.error, call.good_at is not None) == (None, "", True)
    assert calls.failing() == []


def test_what_the_provider_does_not_know_is_an_answer(wavespeed: SandboxControl, db: None) -> None:
    with pytest.raises(errors.NotFound):
        provider.client().result("0" * 32)

    assert calls.failing() == []
