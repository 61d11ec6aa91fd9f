"""The URLs that the sandbox hands out. They follow the files server's address, so that a restart may change it."""

import hashlib
import hmac
from urllib.parse import quote

from wavespeed_sandbox.account import Account
from wavespeed_sandbox.predictions import LIFETIME, Prediction


def upload_url(account: Account, upload_id: str, filename: str) -> str:
    return f"{account.files_url}/uploads/{upload_id}/{quote(filename, safe='')}"


def output_url(account: Account, prediction: Prediction) -> str:
    """The signed URL of a result: the same one until it expires or a fault kills it."""
    expires = int((prediction.ends_at or prediction.submitted_at) + LIFETIME)
    query = f"Expires={expires}&Signature={signature(account, prediction, expires)}"
    return f"{account.files_url}/outputs/{prediction.id}/output.mp4?{query}"


def signature(account: Account, prediction: Prediction, expires: int) -> str:
    text = f"{prediction.id}|{expires}|{prediction.url_version}".encode()
    return hmac.new(account.url_secret.encode(), text, hashlib.sha256).hexdigest()
