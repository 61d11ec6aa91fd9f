"""The words that people write: what is kept of them, and the one form in which they are compared, counted and found empty."""

import re
import unicodedata

# Of Windows, of old Macs, of word processors and of Unicode.
LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
# What Unicode calls “default ignorable”, control characters, and the blank of braille: nobody sees them.
INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
SPACES = re.compile(r"[^\S\n]")


def typed(text: str) -> str:
    """What is kept and sent: all that was typed, but each line ends with `\\n`. Browsers send `\\r\\n`, programs what they like."""
    return LINE_ENDS.sub("\n", text)


def normal(text: str) -> str:
    """What people see: equal for two texts that look the same. Empty where there is nothing to be seen.

    It is never sent: joined emoji and some scripts need what is left out here.
    """
    visible = unicodedata.normalize("NFC", INVISIBLE.sub("", typed(text)))
    return "\n".join(line.rstrip() for line in SPACES.sub(" ", visible).split("\n")).strip()
