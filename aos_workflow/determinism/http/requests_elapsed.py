"""``Response.elapsed`` of requests: the recorded duration, so that it is the same live and in replay.

The rest of requests is captured below it, in urllib3.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import requests

from aos_workflow.determinism.http.arrival import gate
from aos_workflow.determinism.http.wire import ELAPSED
from aos_workflow.determinism.patching import Patches


def patch(patches: Patches) -> None:
    """Patch sessions of requests."""
    gate(patches, requests.Session, "send", _send)


def _send(original: Any, session: Any, *args: Any, **kwargs: Any) -> Any:
    response = original(session, *args, **kwargs)
    recorded_s = getattr(getattr(getattr(response, "raw", None), "_original_response", None), ELAPSED, None)
    if recorded_s is not None:
        response.elapsed = timedelta(seconds=recorded_s)
    return response
