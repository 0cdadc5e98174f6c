"""What is a secret, and what the journal holds in its place."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus, urlsplit, urlunsplit

MASK = "***"

#: Names of secrets; compared in lower case, without hyphens and underscores.
_NAMES = frozenset(
    {
        *(
            "auth",
            "authenticationinfo",
            "authorization",
            "clientassertion",
            "code",
            "jwt",
            "key",
            "pass",
            "proxyauthorization",
        ),
        *("pwd", "sig"),
    }
)
#: What the names of other secrets end with: X-Amz-Signature, client_secret, refreshToken, X-Api-Key, ...
_ENDS = (
    *("accesskey", "apikey", "appkey", "authkey", "credential", "passphrase", "passwd", "password", "privatekey"),
    *("secret", "secretkey", "sessionid", "signature", "subscriptionkey", "token"),
)
#: Tokens that are none: places in a list, names of tries.
_HARMLESS = (
    *("continuationtoken", "continuetoken", "cursortoken", "deltatoken", "idempotencytoken", "nexttoken", "pagetoken"),
    *("paginationtoken", "previoustoken", "skiptoken", "startingtoken", "synctoken"),
)
_CHALLENGES = frozenset({"www-authenticate", "proxy-authenticate"})
_ADDRESSES = frozenset({"location", "content-location"})

_COOKIE_VALUE = re.compile(r"^([^=;]*=)[^;]*")
_NONCE = re.compile(r"""\b(nonce|opaque)(\s*=\s*)("[^"]*"|[^\s,]+)""", re.IGNORECASE)
_TICKET = re.compile(r"^(\s*(?:negotiate|ntlm|kerberos)\s+)\S.*$", re.IGNORECASE | re.DOTALL)
_URL = re.compile(r"\bhttps?://[^\s'\"<>]+", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Is a query parameter or a header of this name a secret?"""
    plain = name.lower().replace("-", "").replace("_", "")
    return plain in _NAMES or (plain.endswith(_ENDS) and not plain.endswith(_HARMLESS))


def masked_url(url: str) -> str:
    """The URL without userinfo, fragment and the values of secret parameters. Masking it again changes nothing."""
    try:
        parts = urlsplit(url)
    except ValueError:  # no URL that anybody could fetch
        return MASK
    host = parts.netloc.rpartition("@")[2]
    query = "&".join(_masked_parameter(parameter) for parameter in parts.query.split("&"))
    return urlunsplit((parts.scheme, f"{MASK}@{host}" if "@" in parts.netloc else host, parts.path, query, ""))


def _masked_parameter(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    return f"{name}={MASK}" if equals and value and is_secret(unquote_plus(name)) else parameter


def masked_text(text: str) -> str:
    """The text of an error with every URL in it masked."""
    return _URL.sub(lambda found: masked_url(found[0]), text)


def masked_header(name: str, value: str) -> str:
    """A response header's value as it may be recorded.

    Of a cookie the name and the attributes stay, of a challenge all but nonces and tickets, so that what
    reads them in replay (a cookie jar, digest authentication) still works.
    """
    lower = name.lower()
    if lower in ("set-cookie", "set-cookie2"):
        return _COOKIE_VALUE.sub(rf"\g<1>{MASK}", value) if _COOKIE_VALUE.match(value) else MASK
    if lower in _CHALLENGES:
        return _TICKET.sub(rf"\g<1>{MASK}", _NONCE.sub(rf'\g<1>\g<2>"{MASK}"', value))
    if lower in _ADDRESSES:
        return masked_url(value)
    return MASK if is_secret(name) else value
