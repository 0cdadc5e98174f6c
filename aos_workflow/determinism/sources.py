"""What a call brings into a step, judged at run time by what is really called, however it was imported or bound.

The names are those of ``lint.catalogue``; what the source text cannot say is added here: whose generator draws, what a
set holds, whether a text shows an address.
"""

from __future__ import annotations

import ast
import functools
import random
import re
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from aos_workflow.determinism.lint.catalogue import listed_name, source_of_call, source_of_name, words
from aos_workflow.determinism.patching import Door

#: An address in a text: the default repr of an object or a function.
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,}")

_CAUSES = {
    "unseeded-random": "unseeded_random",
    "wall-clock": "wall_clock",
    "random-uuid": "uuid",
    "os-entropy": "os_entropy",
    "object-identity": "object_identity",
    "environment": "environment",
    "local-time-zone": "environment",
    "filesystem": "filesystem",
    "directory-order": "filesystem",
    "process-identity": "process_state",
    "thread-race": "thread_race",
    "external-call": "external_call",
}
_MODULES = {
    "posix": "os", "nt": "os", "posixpath": "os.path", "ntpath": "os.path", "genericpath": "os.path",
    "_random": "random", "_io": "builtins", "io": "builtins", "_thread": "threading", "_socket": "socket",
    "_queue": "queue",
    "_datetime": "datetime", "concurrent.futures._base": "concurrent.futures", "asyncio.tasks": "asyncio",
    "concurrent.futures.thread": "concurrent.futures", "concurrent.futures.process": "concurrent.futures",
    "asyncio.threads": "asyncio", "asyncio.queues": "asyncio", "pathlib._local": "pathlib", "_locale": "locale",
    "numpy.random.mtrand": "numpy.random",
    "numpy.random._generator": "numpy.random", "numpy.random.bit_generator": "numpy.random", "_sqlite3": "sqlite3",
    "numpy.random._pcg64": "numpy.random", "numpy.random._mt19937": "numpy.random",
    "numpy.random._philox": "numpy.random", "numpy.random._sfc64": "numpy.random", "requests.api": "requests",
    "httpx._api": "httpx", "pandas._libs.tslibs.timestamps": "pandas",
}  # fmt: skip
#: What the catalogue leaves out because its text looks harmless.
_MORE = {
    "environment": """os.path.abspath os.path.realpath os.path.relpath pathlib.Path.resolve pathlib.Path.absolute
        datetime.datetime.astimezone datetime.datetime.timestamp time.mktime os.get_exec_path sys.getfilesystemencoding
        sys.getrecursionlimit sys.getswitchinterval socket.gethostbyname site.getsitepackages shutil.get_terminal_size
        locale.getlocale time.tzset zoneinfo.reset_tzpath sys.getsizeof os.ctermid os.umask email.utils.localtime""",
    "process_state": """decimal.getcontext sys.getrefcount gc.isenabled gc.get_count threading.current_thread
        logging.getLevelName contextvars.ContextVar.get sys.intern warnings.catch_warnings asyncio.get_running_loop""",
    "wall_clock": "email.utils.formatdate email.utils.make_msgid",
    "filesystem": """pkgutil.get_data importlib.resources.read_text importlib.resources.files json.load
        configparser.ConfigParser.read filecmp.cmp""",
    "thread_race": """queue.Queue.get queue.Queue.get_nowait queue.SimpleQueue.get queue.LifoQueue.get asyncio.Queue.get
        multiprocessing.pool.Pool.imap_unordered concurrent.futures.as_completed asyncio.as_completed asyncio.wait
        concurrent.futures.wait queue.PriorityQueue.get""",
}  # fmt: skip
_ADDED = {name: cause for cause, names in _MORE.items() for name in words(names)}
#: These start threads; what races is decided elsewhere.
STARTS = frozenset(
    {"threading.Thread.start", "threading.Thread", "threading.Timer", "concurrent.futures.ThreadPoolExecutor",
     "concurrent.futures.ThreadPoolExecutor.submit", "concurrent.futures.ThreadPoolExecutor.map", "asyncio.to_thread",
     "concurrent.futures.Executor.submit", "concurrent.futures.Executor.map",
     "multiprocessing.pool.ThreadPool", "multiprocessing.pool.Pool.map"}
)  # fmt: skip
_CONSTRUCTORS = frozenset(
    {"random.Random", "numpy.random.default_rng", "numpy.random.RandomState", "numpy.random.PCG64",
     "numpy.random.Philox", "numpy.random.PCG64DXSM", "numpy.random.MT19937", "numpy.random.SFC64",
     "numpy.random.SeedSequence"}
)  # fmt: skip
_SEEDING = frozenset({"random.Random.seed", "random.seed", "numpy.random.seed", "numpy.random.RandomState.seed"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What a call brings in. ``family`` says how its result can be disturbed.

    chance     draws from a generator           seed      seeds one with a value of its own
    value      returns something from outside   order     goes through a set
    thread     who is first decides             start     starts a thread
    """

    name: str
    cause: str
    family: str


def names_of(called: Any) -> Iterator[str]:
    """The dotted names of what is called, the most specific first."""
    if isinstance(called, functools.partial):
        yield from names_of(called.func)
        return
    if isinstance(called, type):
        for kind in called.__mro__[:-1]:
            yield _dotted(kind.__module__, kind.__qualname__)
        return
    name = getattr(called, "__name__", None)
    if not isinstance(name, str):
        return
    holder = getattr(called, "__self__", None)
    if holder is None or isinstance(holder, ModuleType | Door):
        module = getattr(called, "__module__", None) or getattr(holder, "__name__", "")
        yield _dotted(str(module), str(getattr(called, "__qualname__", name)))
        return
    if holder is random._inst:
        yield f"random.{name}"
    if is_environment(holder):
        yield "os.environ"
    if type(holder).__module__ == "numpy.random.mtrand" and _is_global(holder):
        yield f"numpy.random.{name}"
    for kind in (holder if isinstance(holder, type) else type(holder)).__mro__[:-1]:
        yield f"{_dotted(kind.__module__, kind.__qualname__)}.{name}"


def _dotted(module: str, name: str) -> str:
    return listed_name(f"{_MODULES.get(module, module)}.{name}")


def _is_global(holder: Any) -> bool:
    return numpy_generator() is holder


def numpy_generator() -> Any:
    """The generator behind the functions of ``numpy.random``; None without numpy."""
    return getattr(sys.modules.get("numpy.random.mtrand"), "_rand", None)


#: Generator -> how it was seeded: "unseeded", "seeded" or "run". Filled while the step and its modules run.
Origins = Mapping[int, str]


def source_of(
    called: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], call: ast.Call | None, origins: Origins
) -> Source | None:
    """What this call brings into a step, None if nothing that is known."""
    holder = getattr(called, "__self__", None)
    names = tuple(names_of(called))
    first = names[0] if names else ""
    if isinstance(holder, set | frozenset) and first.endswith(".pop"):
        return Source(name="set.pop", cause=order_cause(holder), family="order") if order_varies(holder) else None
    if called is hash and args:
        cause = {"salted": "set_order", "identity": "object_identity"}.get(hashing(args[0]))
        return Source(name="hash", cause=cause, family="value") if cause else None
    for name in names:
        found = _known(name, called, holder, args, kwargs, call, origins)
        if found is not None:
            return found if found.family else None
    if any(order_varies(value) for value in (*args, *kwargs.values())):
        members = next(value for value in (*args, *kwargs.values()) if order_varies(value))
        return Source(name=first, cause=order_cause(members), family="order")
    return None


def generator_of(called: Any) -> Any:
    """The generator whose method this is; the module's own for a function of ``random``, captured or not."""
    holder = getattr(called, "__self__", None)
    is_of_module = isinstance(holder, Door) and getattr(called, "__module__", "") == "random"
    return random._inst if is_of_module else holder


_NOTHING = Source(name="", cause="", family="")


def _known(
    name: str,
    called: Any,
    holder: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    call: ast.Call | None,
    origins: Origins,
) -> Source | None:
    if name in STARTS:
        return Source(name=name, cause="thread_race", family="start")
    if name in _CONSTRUCTORS:
        given = args[0] if args else next(iter(kwargs.values()), None)
        if given is None:
            return Source(name=name, cause="unseeded_random", family="value")
        return Source(name=name, cause="seed_mismatch", family="seed")
    if name in _SEEDING:
        given = args[0] if args else next(iter(kwargs.values()), None)
        return Source(name=name, cause="seed_mismatch" if given is not None else "unseeded_random", family="seed")
    if origins.get(id(generator_of(called))) in ("seeded", "run"):
        return _NOTHING
    if name.startswith("random.SystemRandom."):
        return Source(name=name, cause="os_entropy", family="value")
    if name.startswith("random.Random.") and isinstance(holder, random.Random):
        origin = origins.get(id(holder), "unseeded")
        return Source(name=name, cause="unseeded_random", family="chance") if origin == "unseeded" else _NOTHING
    if name in _ADDED:
        cause = _ADDED[name]
        return Source(name=name, cause=cause, family="thread" if cause == "thread_race" else "value")
    listed = source_of_call(name, call) if call is not None else source_of_name(name)
    if listed is None:
        return None
    cause = _CAUSES.get(listed.rule, "")
    if not cause:
        return None
    if cause == "unseeded_random":
        return Source(name=name, cause=cause, family="chance")
    return Source(name=name, cause=cause, family="thread" if cause == "thread_race" else "value")


def is_function(value: Any) -> bool:
    """May it be handed on to be called, as in ``key=id``?"""
    return isinstance(value, BuiltinFunctionType | FunctionType | MethodType)


def is_environment(value: Any) -> bool:
    """Is it the environment, ``os.environ``?"""
    return type(value).__module__ == "os" and type(value).__qualname__ == "_Environ"


def attribute_source(owner: Any, name: str) -> Source | None:
    """What reading ``owner.name`` brings in: ``sys.argv``, ``time.tzname``."""
    if not isinstance(owner, ModuleType):
        return None
    dotted = f"{owner.__name__}.{name}"
    if dotted in _ATTRIBUTES or source_of_name(dotted) is not None:
        return Source(name=dotted, cause="environment", family="value")
    return None


_ATTRIBUTES = words(
    """sys.argv sys.version sys.version_info sys.platform sys.executable sys.path sys.flags sys.prefix sys.hexversion
    sys.maxsize sys.byteorder time.tzname time.timezone time.altzone time.daylight os.name os.sep sys.orig_argv
    sys.implementation"""
)


# --- orders and identities -------------------------------------------------------------------


def hashing(value: Any, depth: int = 3) -> str:
    """What the hash of a value depends on: "value" alone, "salted" (the hash seed) or "identity" (where it lies)."""
    if isinstance(value, str | bytes):
        return "salted" if value else "value"
    if value is None or isinstance(value, int | float | complex | Decimal | Fraction | uuid.UUID | timedelta):
        return "salted" if isinstance(value, Enum) else "value"
    if isinstance(value, datetime | date | time | timezone | PurePath | Enum | memoryview):
        return "salted"
    if isinstance(value, tuple | frozenset):
        kinds = {hashing(part, depth - 1) for part in value} if depth else {"salted"}
        return next((kind for kind in ("identity", "salted") if kind in kinds), "value")
    default: Any = object.__hash__
    return "identity" if type(value).__hash__ is default or callable(value) else "salted"


def order_varies(value: Any) -> bool:
    """Is it a set that is gone through in another order elsewhere?"""
    return isinstance(value, set | frozenset) and len(value) > 1 and any(hashing(member) != "value" for member in value)


def order_cause(members: Any) -> str:
    """What the order of a set comes from: the hash seed, or where its members lie."""
    kinds = {hashing(member) for member in members}
    return "object_identity" if "identity" in kinds and "salted" not in kinds else "set_order"


def shows_address(text: Any) -> bool:
    """Is it a text with the default repr of something in it?"""
    return isinstance(text, str) and ADDRESS.search(text) is not None
