import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projects.words import normal, typed

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
ENDS = ["\r\n", "\r", "\n", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("end", ENDS)
def test_each_line_ends_in_one_way(end: str) -> None:
    assert typed(f"one{end}two{end}{end}three") == "one\ntwo\n\nthree"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ctrl one\nctrl two", "ctrl one\r\nctrl two"),
        ("café scene", "cafe\u0301 scene"),
        ("café scene", "cafe\u034f\u0301 scene"),
        ("café scene", "café scene\u200b"),
        ("café scene", "\ufeff café\u00a0scene \t\r\n"),
        ("café scene", "ca\u00adfé\u2060 \u200escene\u202c"),
        ("one\ntwo", "one  \ntwo"),
        ("\u2764", "\u2764\ufe0f"),
        (FAMILY, FAMILY.replace("\u200d", "")),
        ("", "\u200b\u200b"),
        ("", " \u2800\u3164\u3000\n\U000e0041\x00"),
    ],
)
def test_what_looks_the_same_is_the_same(one: str, other: str) -> None:
    assert normal(one) == normal(other) == unicodedata.normalize("NFC", normal(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A cup", "a cup"),
        ("one two", "one\ntwo"),
        ("one  two", "one two"),
        ("①", "1"),
        ("cafe", "café"),
        (" - a", "-a"),
    ],
)
def test_what_looks_different_is_different(one: str, other: str) -> None:
    assert normal(one) != normal(other)


def test_what_is_sent_keeps_what_joins_emoji_and_letters() -> None:
    text = f" {FAMILY} می\u200cخواهم cafe\u0301\u200b "

    assert typed(text) == text


@given(st.text())
def test_the_normal_form_is_stable_and_never_longer(text: str) -> None:
    assert normal(normal(text)) == normal(text) == normal(typed(text))
    assert typed(typed(text)) == typed(text)
