"""The catalogue: every shape a canvas can take, by name, each a function that builds it afresh.

A shape is built anew for every use, because Celery's own freeze, stamp and lazy generators change a canvas in
place. Names are stable: test ids, `DOCUMENTED` and reports use them.
"""

from __future__ import annotations

from collections.abc import Callable

from celery.canvas import Signature

from tests.conformance.catalogue.chains import CHAINS
from tests.conformance.catalogue.chords import CHORDS
from tests.conformance.catalogue.dynamic import DYNAMIC
from tests.conformance.catalogue.groups import GROUPS
from tests.conformance.catalogue.values import VALUES
from tests.conformance.catalogue.wire import WIRE

FAMILIES: dict[str, dict[str, Callable[[], Signature]]] = {
    "chains": CHAINS,
    "groups": GROUPS,
    "chords": CHORDS,
    "values": VALUES,
    "wire": WIRE,
    "dynamic": DYNAMIC,
}

SHAPES: dict[str, Callable[[], Signature]] = {
    name: build for family in FAMILIES.values() for name, build in family.items()
}

if len(SHAPES) != sum(map(len, FAMILIES.values())):
    raise ValueError("two families share the name of a shape")
