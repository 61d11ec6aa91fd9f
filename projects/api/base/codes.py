"""Every code of an error of the API: the statuses that it comes with, and what the caller does about it.

The schema's enum is made of these, and the table in docs/api.md shows them. A code stays what it means.
"""

from typing import NamedTuple


class Code(NamedTuple):
    statuses: tuple[int, ...]
    what_to_do: str


CODES = {
    # What is wrong with one field or parameter.
    "invalid": Code((400,), "The value is of a wrong kind or form: `detail` says what would be right."),
    "required": Code((400,), "Give the field; without it nothing is done."),
    "null": Code((400,), "Give a value: `null` means nothing here."),
    "blank": Code((400,), "Give a text that is not empty, or leave the field out."),
    "empty": Code((400,), "The list or the file has nothing in it."),
    "max_length": Code((400,), "Too long, or too many items."),
    "min_length": Code((400,), "Too short, or too few items."),
    "max_value": Code((400,), "Too much."),
    "min_value": Code((400,), "Too little."),
    "invalid_choice": Code((400,), "Take one of those that `detail` lists."),
    "unstorable": Code((400,), "Take out the NUL, or the half of a surrogate pair."),
    "unique": Code((400,), "There is one of that name already: take another name."),
    "unknown_field": Code((400,), "The body has a field that is not known: mind the spelling."),
    "unknown_parameter": Code((400,), "The address has a parameter that is not known: mind the spelling."),
    "repeated": Code((400,), "Give it once."),
    "bad_file_name": Code((400,), "Send the file's name in UTF-8."),
    # What generations refuse.
    "prompt_or_shots": Code((400,), "Give either `prompt` or `multi_prompt`."),
    "shots_sum": Code((400,), "Let the shots last as long together as `duration`."),
    "duration_not_offered": Code((400,), "Take a length that this model makes."),
    "not_together": Code((400,), "Leave one of the two out."),
    "not_found_here": Code(
        (400,), "The project has no such picture, element or member: upload it, or take another one."
    ),
    "archived": Code(
        (400, 409), "Bring back the picture that `attr` names (400), or take another project or budget (409)."
    ),
    # What is wrong with the whole request.
    "parse_error": Code((400,), "The body can't be read as what its `Content-Type` says."),
    "bad_request": Code((400,), "The request can't be read: is its `Host` the studio's own address?"),
    "invalid_idempotency_key": Code((400,), "Send 1 to 255 visible ASCII characters."),
    "invalid_if_match": Code((400,), "Send the `ETag` as it came, in its quotes."),
    "if_match_not_taken": Code((400,), "Leave `If-Match` out: it would be ignored here."),
    # Pictures that can't be used.
    "unsupported_format": Code((400,), "Send a JPEG, PNG, WebP or HEIC picture."),
    "damaged": Code((400,), "The picture can't be read to its end: send it again, or another one."),
    "over_limits": Code((400,), "The picture takes too much to be read: save it anew."),
    "too_many_pixels": Code((400,), "Make the picture smaller."),
    "too_many_scans": Code((400,), "Save the picture anew, not progressive."),
    "too_small": Code((400,), "Take a picture with longer sides."),
    "bad_aspect": Code((400,), "Crop the picture: it is too long and narrow."),
    # Addresses of pictures.
    "bad_url": Code((400,), "Give a complete web address."),
    "scheme": Code((400,), "Give an address with https:// or http://."),
    "credentials": Code((400,), "Give an address without user name and password."),
    "port": Code((400,), "Give an address at a port of web servers."),
    "private_address": Code((400,), "Give an address in the public internet, or upload the file."),
    "connection": Code((422,), "The other server could not be reached: try later, or upload the file."),
    "timeout": Code((422,), "The other server did not answer in time: try later, or upload the file."),
    "slow": Code((422,), "The other server sends too slowly: try later, or upload the file."),
    "redirects": Code((422,), "Give the address at which the redirects end."),
    "http_status": Code((422,), "The other server refused: `detail` has its status."),
    "expired": Code((422,), "The address leads to nothing any more: get a new one."),
    "truncated": Code((422,), "The file broke off: try again."),
    "encoded": Code((422,), "The other server packs the file in a way that can't be unpacked: upload it."),
    "bad_range": Code((422,), "The other server sent another part than was asked for: try again."),
    # Who you are and what you may.
    "not_authenticated": Code((401,), "Send a token."),
    "authentication_failed": Code((401,), "The token is wrong or has expired: make a new one."),
    "permission_denied": Code((403,), "Ask somebody with the role that `detail` names."),
    "not_found": Code((404,), "There is nothing, or nothing that you may see."),
    "method_not_allowed": Code((405,), "Take a method that `Allow` lists."),
    "unsupported_media_type": Code((415,), "Send JSON; a file as multipart/form-data."),
    "throttled": Code((429,), "Come back after `Retry-After` seconds."),
    # Money.
    "no_budget": Code((402,), "Have a budget set: a project without one can't spend."),
    "over_budget": Code(
        (402,), "Wait until `resets_at`, have the limit raised, or order less: see `needed` and `free`."
    ),
    "price_changed": Code((409,), "Look at the price again, and order again."),
    "price_unknown": Code((503,), "Try later: the provider does not tell its price, and nothing was queued."),
    # What stands in the way now.
    "needs_confirmation": Code((409,), "`existing` is the same: use it, or pay for another one with `confirm`."),
    "wrong_status": Code((409,), "Ask for the row again: its status does not allow this (any more)."),
    "asker_left": Code((409,), "Whoever asked may not spend any more: order it yourself."),
    "too_soon": Code((409,), "Wait: 15 minutes after it was sent."),
    "not_read": Code((409,), "Wait until `looks` are newer: the studio reads them by itself."),
    "no_candidate": Code((400, 409), "Take one of `candidates/`."),
    "bad_address": Code((409,), "Give an address that can be fetched."),
    "reason_missing": Code((409,), "Give a reason."),
    "refused": Code((409,), "`detail` says why."),
    "conflict": Code((409,), "Somebody has made or changed the same thing: look at it again."),
    "member": Code((409,), "They are a member already: change their role."),
    "last_owner": Code((409,), "Make somebody else owner first."),
    "switched_off": Code((409,), "Have a studio owner switch them on."),
    "precondition_failed": Code((412,), "`current` is what is there now: look at it, and repeat with its ETag."),
    "idempotency_key_in_flight": Code((409,), "Ask again with the same key after `Retry-After` seconds."),
    "idempotency_key_reused": Code((422,), "Take a new key: this one belongs to another request."),
    "deleted": Code((410,), "The files were deleted from the trash; upload the picture again."),
    "too_large": Code((400, 413, 422), "Send less: `detail` has the limit."),
    "upload_too_large": Code((413,), "Make the picture's file smaller: `detail` has the limit."),
    # The studio.
    "error": Code((500,), "Our fault, which we are told of: repeat with the same key."),
    "database_away": Code((503,), "Repeat with the same key after `Retry-After` seconds."),
}

# Ours for the framework's: one name for one thing.
OURS = {
    "not_a_list": "invalid",
    "not_a_dict": "invalid",
    "date": "invalid",
    "datetime": "invalid",
    "make_aware": "invalid",
    "overflow": "invalid",
    "no_name": "bad_file_name",
    "max_string_length": "max_length",
    "null_characters_not_allowed": "unstorable",
    "surrogate_characters_not_allowed": "unstorable",
    "unique_together": "unique",
}
