"""One HTTP call: JSON there, JSON back, errors that say whether to try again."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

TIMEOUT_S = 8  # below the 10 s a step may take

# The service is on this machine: no proxy, whatever the environment says.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServiceBusy(Exception):
    """The service asked to be called again later; ``retry_after_s`` is its own estimate, in seconds."""

    def __init__(self, url: str, retry_after_s: int) -> None:
        super().__init__(url, retry_after_s)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.args[0]} is busy, try again in {self.retry_after_s} s"


class ServiceRefused(Exception):
    """The service understood the call and will never answer it; the message says why."""


def post(url: str, body: dict[str, Any], key: str | None = None) -> dict[str, Any]:
    """The answer to one POST. ServiceBusy on 429 and 5xx, ServiceRefused on other refusals, OSError if the
    service cannot be reached.  ``key`` makes a second call with it harmless."""
    request = urllib.request.Request(url, data=json.dumps(body).encode(), method="POST")
    request.add_header("Content-Type", "application/json")
    if key is not None:
        request.add_header("Idempotency-Key", key)
    try:
        with _opener.open(request, timeout=TIMEOUT_S) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        with error:
            reason = error.read().decode(errors="replace")
        if error.code == 429 or error.code >= 500:
            raise ServiceBusy(url, int(error.headers.get("Retry-After") or 1)) from None
        raise ServiceRefused(f"{url} answered {error.code}: {reason}") from None
