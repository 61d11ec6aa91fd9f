import hashlib
import hmac
import json
import time

import pytest

from generations.wavespeed.errors import BadSignature, Unreadable
from generations.wavespeed.redaction import Redactor
from generations.wavespeed.webhooks import parse, verify

SECRET = "whsec_c2VjcmV0IHRleHQ="
NOW = 1_795_000_000
BODY = b'{"id": "0123456789abcdef0123456789abcdef", "status": "completed", "outputs": ["https://x/a.mp4"]}'


def sign(
    body: bytes = BODY, *, key: bytes = b"c2VjcmV0IHRleHQ=", name: str = "msg_1", at: object = NOW
) -> dict[str, str]:
    digest = hmac.new(key, f"{name}.{at}.".encode() + body, hashlib.sha256).hexdigest()
    return {"Webhook-Id": name, "Webhook-Timestamp": str(at), "Webhook-Signature": f"v3,{digest}"}


def reason(headers: dict[str, str], body: bytes = BODY, secret: str = SECRET) -> str:
    with pytest.raises(BadSignature) as caught:
        verify(secret, headers, body, now=NOW)
    assert caught.value.reason == str(caught.value)
    return caught.value.reason


def test_verify_accepts_what_the_provider_signed() -> None:
    verify(SECRET, sign(), BODY, now=NOW)


def test_verify_matches_a_signature_computed_elsewhere() -> None:
    # printf 'msg_1.1795000000.{}' | openssl dgst -sha256 -hmac secret
    signature = "v3,5471e39a3f06f4bd6ca164d840b17754ef9f6f3bd3ca1adfffdff37cfaf63966"
    headers = {"webhook-id": "msg_1", "webhook-timestamp": "1795000000", "webhook-signature": signature}
    verify("whsec_secret", headers, b"{}", now=NOW)


def test_verify_takes_a_secret_without_its_prefix() -> None:
    verify("c2VjcmV0IHRleHQ=", sign(), BODY, now=NOW)


def test_verify_accepts_one_of_several_signatures() -> None:
    headers = sign()
    headers["Webhook-Signature"] = f"v1,abc {headers['Webhook-Signature']}"
    verify(SECRET, headers, BODY, now=NOW)


@pytest.mark.parametrize("age", [-300, 0, 300])
def test_verify_accepts_what_is_within_the_tolerance(age: int) -> None:
    verify(SECRET, sign(at=NOW - age), BODY, now=NOW)


def test_verify_uses_the_clock_when_no_time_is_given() -> None:
    verify(SECRET, sign(at=int(time.time())), BODY)
    with pytest.raises(BadSignature, match="s old"):
        verify(SECRET, sign(at=int(time.time()) - 400), BODY)


def test_verify_refuses_what_is_too_old_or_in_the_future() -> None:
    assert reason(sign(at=NOW - 301)) == "The webhook is 301 s old: at most 300 s are allowed."
    assert reason(sign(at=NOW + 301)) == "The webhook is 301 s in the future: at most 300 s are allowed."


WRONG = "The signature is not that of this body."


def test_verify_refuses_another_body_key_id_or_time() -> None:
    assert reason(sign(), BODY + b" ") == WRONG
    assert reason(sign(key=b"other")) == WRONG
    assert reason(sign(key=b"secret text")) == WRONG  # the key decoded from base64
    assert reason(sign(key=SECRET.encode())) == WRONG  # the key with its prefix
    assert reason(sign() | {"Webhook-Id": "msg_2"}) == WRONG
    assert reason(sign() | {"Webhook-Timestamp": str(NOW - 1)}) == WRONG


@pytest.mark.parametrize(
    "signature", ["v3,", "v3", "v3,0", "v1,{digest}", "{digest}", "é", "\udcff", "v3,{digest}0", "V3,{digest}"]
)
def test_verify_refuses_strange_signatures(signature: str) -> None:
    headers = sign()
    digest = headers["Webhook-Signature"].removeprefix("v3,")
    assert reason(headers | {"Webhook-Signature": signature.format(digest=digest)}) == WRONG


@pytest.mark.parametrize("name", ["Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"])
def test_verify_names_the_missing_header(name: str) -> None:
    expected = f"The header {name.lower()} is missing."
    assert reason({key: value for key, value in sign().items() if key != name}) == expected
    assert reason(sign() | {name: ""}) == expected


@pytest.mark.parametrize("timestamp", ["soon", "-1", "1.5", "1_795_000_000", "²", "9" * 5000])
def test_verify_refuses_strange_times(timestamp: str) -> None:
    assert reason(sign(at=timestamp)) == "The header webhook-timestamp is not a time in Unix seconds."


@pytest.mark.parametrize("secret", ["", "whsec_", " "])
def test_verify_without_a_secret_refuses_what_is_signed_with_nothing(secret: str) -> None:
    assert reason(sign(key=b""), secret=secret) == "There is no webhook secret to verify with."


def test_parse_reads_the_bare_prediction() -> None:
    prediction = parse(BODY, Redactor())
    assert (prediction.id, prediction.status) == ("0123456789abcdef0123456789abcdef", "completed")
    assert prediction.outputs == ("https://x/a.mp4",)
    assert prediction.is_terminal


def test_parse_does_not_print_what_must_not_be_logged() -> None:
    told = {
        "id": "a1",
        "outputs": ["https://x/a.mp4?sig=s1"],
        "input": {"prompt": "A fox"},
        "error": "“A fox” was refused",
    }
    prediction = parse(json.dumps(told).encode(), Redactor())
    assert "s1" not in repr(prediction)
    assert "fox" not in repr(prediction)
    assert prediction.error == "“[hidden]” was refused"


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{}", b'{"id": ""}', b'{"id": {"a": 1}}', b"\xff", b"[" * 100_000, b'{"data": {"id": "a"}}'],
)
def test_parse_tells_what_is_no_prediction(body: bytes) -> None:
    with pytest.raises(Unreadable, match=r"This webhook is not a prediction\."):
        parse(body, Redactor())
