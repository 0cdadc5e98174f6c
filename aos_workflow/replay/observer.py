"""Observer: what the hooks of instrumented user code see, and what they disturb.

An observer belongs to one process that performs a step for the sake of looking at it.
"""

from __future__ import annotations

import builtins
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath
from types import FunctionType
from typing import Any

from aos_workflow import context as step_context
from aos_workflow.determinism import disturbing
from aos_workflow.determinism.digests import digest_of
from aos_workflow.determinism.frozen import Frozen
from aos_workflow.determinism.sources import (
    Source,
    attribute_source,
    generator_of,
    is_environment,
    is_function,
    numpy_generator,
    order_cause,
    order_varies,
    shows_address,
    source_of,
)
from aos_workflow.determinism.user_code import is_user_file, user_function
from aos_workflow.replay.instrumenting import Site, sites

#: The results of a site that are remembered, at most.
MOST_RESULTS = 200
#: Causes whose values are new each time; those of the others are there, and the same until somebody changes them.
FROM_NOWHERE = frozenset(
    {"unseeded_random", "wall_clock", "uuid", "os_entropy", "set_order", "object_identity", "process_state"}
)


@dataclass(kw_only=True)
class Seen:
    """What came in at one site. ``results`` are digests, in order."""

    site: Site
    source: Source
    phase: str
    order: int
    count: int = 0
    results: list[str] = field(default_factory=list)
    in_thread: bool = False
    paths: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "key": self.site.key,
            "location": self.site.location,
            "name": self.source.name,
            "cause": self.source.cause,
            "family": self.source.family,
            "phase": self.phase,
            "order": self.order,
            "count": self.count,
            "results": self.results,
            "in_thread": self.in_thread,
            "paths": self.paths,
        }


class Observer:
    """Sees, freezes and disturbs; ``arrange`` says what."""

    def __init__(self) -> None:
        self.phase = "import"
        self.seen: dict[tuple[str, str], Seen] = {}
        self.threads_started = False
        self._origins: dict[int, str] = {}
        self._held: list[Any] = []
        self._frozen = Frozen()
        self._counts: dict[str, int] = {}
        self._disturb: Mapping[str, int] = {}
        self._freeze = False
        self._shake: int | None = None

    def arrange(self, *, disturb: Mapping[str, int], freeze: bool, shake: int | None) -> None:
        """``disturb``: site key -> variant. ``freeze``: what comes from nowhere (clock, chance, order, identity) is
        the same in every process. ``shake``: threads lose time at random places."""
        self._disturb, self._freeze, self._shake = disturb, freeze, shake

    def begin(self, address: str) -> None:
        """The step at ``address`` is performed next; the frozen world begins anew."""
        self.phase = address
        self._frozen = Frozen()
        self._counts = {}

    def hooks(self) -> dict[str, Callable[..., Any]]:
        return {
            "__aos_call__": self._call,
            "__aos_iter__": self._iter,
            "__aos_shown__": self._shown,
            "__aos_filled__": self._filled,
            "__aos_read__": self._read,
            "__aos_attribute__": self._attribute,
        }

    def sources(self) -> Iterable[Seen]:
        return list(self.seen.values())

    # --- hooks -----------------------------------------------------------------------------

    def _call(self, index: int, called: Any) -> Any:
        if self._shake is not None:
            self._lose_time(index)
        if _is_users(called):
            return called
        return _through(self, sites[index], called)

    def before(self, site: Site, called: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call:
        """What is called, with what: disturbed, if it is to be."""
        context = step_context.current.get()
        if context is not None and "random" in context.__dict__:
            self._origins[id(context.random)] = "run"  # ctx.random is seeded by the run
        args = tuple(self._handed_on(site, value) for value in args)
        kwargs = {name: self._handed_on(site, value) for name, value in kwargs.items()}
        try:
            source = source_of(called, args, kwargs, site.call, self._origins)
        except Exception:  # odd objects: nothing is known of them
            source = None
        variant = self._variant(site, source) if source is not None else self._disturb.get(site.key)
        if source is not None and variant is not None:
            match source.family:
                case "chance":
                    disturbing.drawn_otherwise(called, f"{variant} {self._count(site)}")
                case "seed" if variant:
                    other = 990 + variant
                    args, kwargs = ((other, *args[1:]), kwargs) if args else ((), dict.fromkeys(kwargs, other))
                case "order" if source.name == "set.pop":
                    called = partial(_pop_other, called.__self__, variant)
                case "order":
                    args = tuple(disturbing.turned(value, variant) for value in args)
                    kwargs = {name: disturbing.turned(value, variant) for name, value in kwargs.items()}
        return _Call(site, called, args, kwargs, source, variant, _served())

    def after(self, call: _Call, result: Any) -> Any:
        """What the call gave: noted, and disturbed, if it is to be."""
        source, site = call.source, call.site
        if source is None and shows_address(result) and not any(map(shows_address, call.args)):
            source = Source(name="repr", cause="object_identity", family="value")
            variant = self._variant(site, source)
            if variant is not None:
                result = disturbing.without_address(result, variant)
        elif source is not None and _served() > call.served:
            return result  # from the recording
        elif source is not None and call.variant is not None and source.family in ("value", "thread"):
            result = self._disturbed(result, call.variant, source, call.args)
        if source is None:
            return result
        if source.family == "start":
            self.threads_started = True
        self._remember_origin(call, source, result)
        return self._note(site, source, result, call)

    def _iter(self, index: int, value: Any) -> Any:
        if not order_varies(value):
            return value
        site = sites[index]
        source = Source(name="iteration", cause=order_cause(value), family="order")
        self._note(site, source, list(value))
        variant = self._variant(site, source)
        return list(disturbing.turned(value, variant)) if variant is not None else value

    def _shown(self, index: int, value: Any) -> Any:
        if isinstance(value, str | int | float):
            return value
        site = sites[index]
        if order_varies(value):
            source = Source(name="text of a set", cause=order_cause(value), family="order")
            self._note(site, source, list(value))
            variant = self._variant(site, source)
            return disturbing.turned(value, variant) if variant is not None else value
        default: Any = object.__format__
        if type(value).__format__ is not default:
            return value
        text = repr(value) if site.conversion in ("r", "a") else str(value)
        if not shows_address(text):
            return value
        source = Source(name="repr", cause="object_identity", family="value")
        self._note(site, source, text)
        variant = self._variant(site, source)
        return disturbing.Shown(text, variant) if variant is not None else value

    def _filled(self, index: int, left: Any, right: Any) -> Any:
        if not isinstance(left, str | bytes):
            return left % right
        site = sites[index]
        parts = right if isinstance(right, tuple) else (right,)
        members = next((part for part in parts if order_varies(part)), None)
        if members is not None:
            source = Source(name="text of a set", cause=order_cause(members), family="order")
            self._note(site, source, list(members))
            variant = self._variant(site, source)
            if variant is not None:
                parts = tuple(disturbing.turned(part, variant) for part in parts)
                right = parts if isinstance(right, tuple) else parts[0]
        text = left % right
        if shows_address(text) and not shows_address(left):
            source = Source(name="repr", cause="object_identity", family="value")
            self._note(site, source, text)
            variant = self._variant(site, source)
            return disturbing.without_address(text, variant) if variant is not None else text
        return text

    def _read(self, index: int, value: Any) -> Any:
        if not is_environment(value):
            return value
        site = sites[index]
        self._note(site, Source(name="os.environ", cause="environment", family="value"), "environ")
        variant = self._disturb.get(site.key)
        return disturbing.OtherEnviron(value, variant) if variant else value

    def _attribute(self, index: int, owner: Any, name: str) -> Any:
        value = getattr(owner, name)
        source = attribute_source(owner, name)
        if source is None:
            return value
        site = sites[index]
        self._note(site, source, value)
        variant = self._disturb.get(site.key)
        return self._disturbed(value, variant, source, ()) if variant is not None else value

    # --- what was seen ---------------------------------------------------------------------

    def _note(self, site: Site, source: Source, result: Any, call: _Call | None = None) -> Any:
        key = (site.key, self.phase)
        seen = self.seen.get(key)
        if seen is None:
            seen = self.seen[key] = Seen(site=site, source=source, phase=self.phase, order=len(self.seen))
        seen.count += 1
        seen.in_thread |= threading.current_thread() is not threading.main_thread()
        if len(seen.results) < MOST_RESULTS:
            seen.results.append(_digest(result, call))
        if call is not None and source.cause == "filesystem":
            seen.paths += _paths(call)
        return result

    def _handed_on(self, site: Site, value: Any) -> Any:
        """A function that is handed on (``key=id``, ``default_factory=uuid4``) is seen where that is done."""
        if not is_function(value) or _is_users(value):
            return value
        try:
            source = source_of(value, ("",), {}, None, self._origins)
        except Exception:
            return value
        return _through(self, site, value) if source is not None and source.family in ("value", "chance") else value

    def _variant(self, site: Site, source: Source) -> int | None:
        """Which disturbance this site gets; frozen is one as well."""
        frozen = disturbing.FROZEN if self._freeze and source.cause in FROM_NOWHERE else None
        return self._disturb.get(site.key, frozen)

    def _count(self, site: Site) -> int:
        """How often this site was passed in this performance of the step."""
        count = self._counts[site.key] = self._counts.get(site.key, 0) + 1
        return count

    def _disturbed(self, value: Any, variant: int, source: Source, args: tuple[Any, ...]) -> Any:
        try:
            if source.cause in FROM_NOWHERE:
                return self._frozen.value(value, args, source.name, variant)
            return disturbing.disturbed(value, variant) if variant else value
        except Exception:  # a value that cannot be another: the output will tell nothing
            return value

    def _remember_origin(self, call: _Call, source: Source, result: Any) -> None:
        if source.name.endswith("Random") and source.family in ("seed", "value"):
            self._origins[id(result)] = "seeded" if source.family == "seed" else "unseeded"
            self._held.append(result)  # so that its id stays its own
        elif source.family == "seed":
            holder = generator_of(call.called) if source.name != "numpy.random.seed" else numpy_generator()
            self._origins[id(holder)] = "seeded" if source.cause == "seed_mismatch" else "unseeded"
            self._held.append(holder)

    def _lose_time(self, index: int) -> None:
        if threading.current_thread() is threading.main_thread() and not self.threads_started:
            return
        draw = zlib.crc32(f"{self._shake}:{index}:{threading.get_ident()}:{time.monotonic_ns()}".encode())
        if draw % 3 == 0:
            _sleep((draw >> 8) % 2000 / 1e6)


_sleep = time.sleep


@dataclass(frozen=True, slots=True)
class _Call:
    site: Site
    called: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    source: Source | None
    variant: int | None
    served: int


def _served() -> int:
    """How many recorded values the step was given so far."""
    context = step_context.current.get()
    return sum(list(context.journal._served.values())) if context is not None else 0


def _through(observer: Observer, site: Site, called: Any) -> Callable[..., Any]:
    """``called``, watched. It runs in a frame that looks like the user's line, because capture asks who calls."""
    # fmt: off
    watched: Any = lambda *args, **kwargs: observer.after((call := observer.before(site, called, args, kwargs)), call.called(*call.args, **call.kwargs))  # noqa: E731, E501
    # fmt: on
    code = watched.__code__.replace(co_filename=site.file, co_firstlineno=site.line)
    return FunctionType(code, _namespace(site.file), code.co_name, None, watched.__closure__)


_namespaces: dict[str, dict[str, Any]] = {}


def _namespace(file: str) -> dict[str, Any]:
    """Globals that say which module calls."""
    if file not in _namespaces:
        import sys

        name = next((n for n, m in list(sys.modules.items()) if getattr(m, "__file__", None) == file), "user")
        _namespaces[file] = {"__name__": name, "__file__": file, "__builtins__": builtins}
    return _namespaces[file]


def _is_users(called: Any) -> bool:
    """Is it code of the user's, which is instrumented itself?"""
    if isinstance(called, type):
        file = getattr(__import__("sys").modules.get(called.__module__), "__file__", None) or ""
        return is_user_file(file)
    function = getattr(called, "__func__", called)
    code = getattr(function, "__code__", None)
    if code is not None:
        return is_user_file(code.co_filename) or user_function(called) is not None
    return getattr(type(called), "is_step", False) is True


def _pop_other(members: set[Any], variant: int) -> Any:
    member = disturbing.in_order(members, bool(variant))[0]
    members.remove(member)
    return member


def _digest(result: Any, call: _Call | None) -> str:
    if call is not None and call.source is not None:
        if call.source.family == "seed":
            return digest_of(call.args or call.kwargs)
        if result is None and call.source.family == "chance" and call.args:
            return digest_of(call.args[0])  # shuffle
    return digest_of(result)


def _paths(call: _Call) -> list[str]:
    holder = getattr(call.called, "__self__", None)
    given = [value for value in (holder, *call.args[:1]) if isinstance(value, PurePath | str)]
    return [str(value) for value in given][:1]
