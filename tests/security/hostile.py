"""Texts that people and the provider may bring: markup, templates, addresses that run, marks that turn lines around."""

from collections.abc import Callable
from itertools import cycle

# Each tries to call `alert`, or leaves a mark that no page may have: `<xss`.
MARKUP = "<xss id=x tabindex=1 onfocus=alert(1)></xss><script>alert(2)</script>"
TEXTS = [
    MARKUP,
    '"><img src=x onerror=alert(3)><xss>',
    "'><svg onload=alert(4)><xss>",
    "</script><xss><script>alert(5)</script>",
    "</textarea></title></style><xss onclick=alert(6)>",
    "javascript:alert(7)//<xss>",
    "{{ 7*7 }}{% now 'Y' %}${7*7}<xss>",
    "<a href='javascript:alert(8)'><xss>",
    "`};alert(9);//<xss>",
    "\\u003cxss\\u003e<xss>",
    "\u202egnp.exe\u202c\u2066<xss>\u2069",
    "x-data=alert(10) @click=alert(11) {{<xss>}}",
    "&lt;script&gt;<xss>",
    "<!--<xss>-->",
    "]]><xss>",
    "<xss " + "w" * 3000,
]
# What may never stand in a page as it is.
UNESCAPED = ["<xss", "<script>alert", "<img src=x", "<svg onload", "href='javascript:", 'href="javascript:']


def texts() -> Callable[[str], str]:
    """A text for each place, one after the other; each begins with a mark that names the place."""
    each = cycle(TEXTS)
    return lambda place: f"{next(each)}"


def everywhere(text: str) -> Callable[[str], str]:
    """The same text in all places, made different by its end where names have to be."""
    return lambda place: text
