"""What is kept and shown of an exchange: no key, no prompt, no signed address; and the time that it takes."""

import json
import re
import time

import pytest

from generations.wavespeed.redaction import MAX_SECRETS, Redactor

KEY = "wsk_live_0123456789abcdef"


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        f"Bearer {KEY}",
        f"x{KEY}y",
        f'{{"headers": {{"a": "{KEY}"}}, "b": "{KEY}"}}',
        f"not json {KEY}",
        f"{KEY}{KEY}",
    ],
)
def test_the_key_is_hidden_wherever_it_stands(text: str) -> None:
    assert KEY not in Redactor(KEY).excerpt(text.encode())
    assert KEY not in Redactor(KEY).text(text)


def test_a_short_prompt_is_hidden_as_a_word_and_not_within_others() -> None:
    assert Redactor("a").text("a cat and a.mp4: “a”, _a, bar") == "[hidden] cat and [hidden].mp4: “[hidden]”, _a, bar"


def test_the_longer_of_two_prompts_is_hidden_whole_and_what_hides_is_not_hidden_again() -> None:
    assert Redactor("Steam", "Steam rises slowly", "hidden").text("Steam rises slowly, Steam") == "[hidden], [hidden]"


def test_a_prompt_is_hidden_as_json_writes_it_too() -> None:
    prompt = "Steam “rises”\nfrom the \\ cup é"
    for text in (prompt, json.dumps(prompt), json.dumps(prompt, ensure_ascii=False)):
        assert "rises" not in Redactor(prompt).text(text)


def test_where_there_are_more_secrets_than_an_honest_exchange_has_nothing_is_shown() -> None:
    told = {"prompts": [{"prompt": f"Steam {number}"} for number in range(MAX_SECRETS + 1)], "error": "Steam 3"}
    assert Redactor(KEY).excerpt(json.dumps(told).encode()) == "[hidden]"


@pytest.mark.parametrize(
    "told",
    [
        {"input": {"prompt": "Steam rises. " * 40_000}, "error": "Steam " * 20_000},
        {"multi": [{"prompt": f"Steam {number} " * 800} for number in range(50)]},
        {"multi": [{"prompt": f"{number}"} for number in range(50)], "error": "1 " * 200_000},
        {"multi": [{"prompt": f"Steam {number}"} for number in range(30_000)]},
        {"prompt": "a" * 240_000, "error": "a" * 240_000},
        {"prompt": "a a " * 60_000 + "b", "error": "a a " * 60_000},
    ],
    ids=["one long prompt", "many long ones", "many short ones", "thousands", "one letter", "two words"],
)
def test_half_a_megabyte_is_redacted_at_once(told: dict[str, object]) -> None:
    body = json.dumps(told).encode()
    began = time.process_time()

    shown = Redactor(KEY).excerpt(body)

    assert "Steam rises" not in shown
    assert time.process_time() - began < 0.5


def test_nothing_is_compiled_from_what_came_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("A pattern was compiled.")

    monkeypatch.setattr(re, "compile", refuse)

    assert (
        Redactor(KEY).excerpt(b'{"prompt": "Steam", "error": "Steam"}') == '{"prompt": "[hidden]", "error": "[hidden]"}'
    )
