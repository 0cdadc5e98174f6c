"""Outgoing HTTP of untouched steps: recorded live, served from the recording in replay.

    exchange             what was asked and answered, and the journal's form of it
    masks                what is a secret and never reaches the journal
    raised               errors of HTTP libraries, in and out of the journal
    standard_library     http.client, and with it urllib.request, xmlrpc.client, ...
    urllib3_pool         urllib3, and with it requests, boto3, ...
    requests_elapsed     the recorded duration, for requests
    httpx_transport      httpx, sync and async
    stream               bodies that are recorded while they are read
    arrival              patches a library when it is imported

Patched is the lowest level of each library that still knows whole requests: redirects, retries, cookie
jars, authentication and decoding are the library's own, above it, and run live as in replay. Without a
step being captured, a patched function is its original after one look at a ContextVar.
"""

from __future__ import annotations

import threading

from aos_workflow.determinism.http.arrival import Arrivals
from aos_workflow.determinism.http.exchange import LIMIT_BYTES
from aos_workflow.determinism.http.standard_library import patch as patch_standard_library
from aos_workflow.determinism.patching import Patches

__all__ = ["LIMIT_BYTES", "install", "uninstall"]

_lock = threading.Lock()
_patches = Patches()
_arrivals: Arrivals | None = None


def install() -> None:
    """Patch every HTTP library there is, and the others as soon as they are imported. Idempotent, O(1) when done."""
    global _arrivals
    if _arrivals is not None:
        return
    with _lock:
        if _arrivals is None:
            patch_standard_library(_patches)
            arrivals = Arrivals({"urllib3": _urllib3, "requests": _requests, "httpx": _httpx})
            arrivals.watch()
            _arrivals = arrivals


def uninstall() -> None:
    """Take every patch back. For tests: a step that is being captured loses its capture."""
    global _arrivals
    with _lock:
        if _arrivals is not None:
            _arrivals.stop()
            _patches.restore()
            _arrivals = None


# Imported late: these modules import their library, which need not be installed.


def _urllib3() -> None:
    from aos_workflow.determinism.http.urllib3_pool import patch

    patch(_patches)


def _requests() -> None:
    from aos_workflow.determinism.http.requests_elapsed import patch

    patch(_patches)


def _httpx() -> None:
    from aos_workflow.determinism.http.httpx_transport import patch

    patch(_patches)
