"""Ambient capture: untouched code gets recorded values live, the same in replay, and its own outside of a step."""

# Naive moments are what is tested here.
# ruff: noqa: DTZ002, DTZ003, DTZ005, DTZ011

from __future__ import annotations

import concurrent.futures
import copy
import datetime as datetimes
import decimal
import gzip
import inspect
import io
import json
import logging
import os
import pickle
import random
import secrets
import statistics
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import types
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos_workflow.determinism import ambient
from aos_workflow.determinism.captured import Captured, captured
from aos_workflow.journal import EffectJournal

T = TypeVar("T")
HERE = __name__
NOW_S = 1_750_000_000.0
ROOT = Path(__file__).parents[2]
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    ambient.install()
    yield
    ambient.uninstall()


@pytest.fixture
def time_zone() -> Iterator[Callable[[str], None]]:
    before = os.environ.get("TZ")

    def use(name: str) -> None:
        os.environ["TZ"] = name
        time.tzset()

    yield use
    os.environ.pop("TZ", None)
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


class Moment(datetime):
    """A subclass, as users write them."""


class Day(date):
    """A subclass, as users write them."""


def capture(recorded: str | None = None, *, replay: bool = False, seed: int = 7, on: bool = True) -> Captured:
    journal = EffectJournal(recorded, is_replay=replay)
    return Captured(journal=journal, seed=seed, address="2.score", now_s=NOW_S, ambient=on, http=False)


def within(what: Captured | None, step: Callable[[], T]) -> T:
    token = captured.set(what)
    try:
        return step()
    finally:
        captured.reset(token)


def live_and_again(step: Callable[[], T]) -> tuple[T, T, EffectJournal]:
    """What the step returned live, what its replay returned, and the replay's journal."""
    first = capture()
    live = within(first, step)
    second = capture(first.journal.text(), replay=True)
    return live, within(second, step), second.journal


def user_module(source: str, name: str = "shop.pricing") -> dict[str, Any]:
    """The globals of a module of the user's."""
    namespace: dict[str, Any] = {"__name__": name}
    exec(textwrap.dedent(source), namespace)
    return namespace


CALLS: dict[str, Callable[[], Any]] = {
    "random.random": lambda: random.random(),
    "random.randint": lambda: random.randint(1, 1_000_000),
    "random.choice": lambda: random.choice(range(1000)),
    "random.choices": lambda: random.choices(range(1000), k=3),
    "random.sample": lambda: random.sample(range(1000), 3),
    "random.uniform": lambda: random.uniform(1, 2),
    "random.gauss": lambda: random.gauss(0, 1),
    "random.getrandbits": lambda: random.getrandbits(64),
    "random.randbytes": lambda: random.randbytes(8),
    "random.expovariate": lambda: random.expovariate(1.0),
    "random.seed": lambda: random.seed(),
    "random.Random": lambda: random.Random().random(),
    "statistics": lambda: statistics.NormalDist(0, 1).samples(2),
    "random.SystemRandom": lambda: random.SystemRandom().randint(1, 1_000_000),
    "secrets.token_hex": lambda: secrets.token_hex(8),
    "secrets.choice": lambda: secrets.choice(range(1000)),
    "secrets.randbelow": lambda: secrets.randbelow(1_000_000),
    "os.urandom": lambda: os.urandom(8),
    "uuid.uuid4": lambda: uuid.uuid4(),
    "uuid.uuid1": lambda: uuid.uuid1(),
    "time.time": lambda: time.time(),
    "time.time_ns": lambda: time.time_ns(),
    "time.monotonic": lambda: time.monotonic(),
    "time.perf_counter": lambda: time.perf_counter(),
    "time.perf_counter_ns": lambda: time.perf_counter_ns(),
    "time.process_time": lambda: time.process_time(),
    "time.thread_time": lambda: time.thread_time(),
    "time.clock_gettime": lambda: time.clock_gettime(time.CLOCK_REALTIME),
    "time.localtime": lambda: time.localtime(),
    "time.gmtime": lambda: time.gmtime(),
    "time.ctime": lambda: time.ctime(),
    "time.asctime": lambda: time.asctime(),
    "time.strftime": lambda: time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    "datetime.now": lambda: datetime.now(),
    "datetime.now aware": lambda: datetime.now(UTC),
    "datetime.now zone": lambda: datetime.now(BERLIN),
    "datetime.now subclass": lambda: Moment.now(),
    "datetime.today": lambda: datetime.today(),
    "datetime.utcnow": lambda: utcnow(),
    "date.today": lambda: date.today(),
    "gzip": lambda: gzip.compress(b"text"),
}
SEEDED = {name for name in CALLS if name.startswith(("random.", "statistics")) and name != "random.SystemRandom"}


def utcnow() -> datetime:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return datetime.utcnow()


# -- recorded and served ---------------------------------------------------------------------


@pytest.mark.parametrize("name", CALLS)
def test_replay_serves_what_live_saw(name: str) -> None:
    """Whatever a step calls, and however often, its replay gets the same, of the same type."""
    call = CALLS[name]
    live, again, journal = live_and_again(lambda: [call(), call(), call()])
    assert live == again
    assert [type(value) for value in live] == [type(value) for value in again]
    assert journal.breaches == []


@pytest.mark.parametrize("name", sorted(CALLS.keys() - SEEDED))
def test_recorded_values_are_json(name: str) -> None:
    """The journal holds plain JSON, under the source and the module that called."""
    what = capture()
    within(what, CALLS[name])
    (series,) = json.loads(what.journal.text() or "")["ambient"]
    assert series.endswith(f"@{HERE}")


@pytest.mark.parametrize("name", sorted(SEEDED))
def test_seeded_chance_stores_nothing(name: str) -> None:
    """Chance that comes from the step's seed leaves no trace in the journal, and another seed gives another."""
    first, second = capture(seed=1), capture(seed=2)
    drawn = [[within(what, CALLS[name]), within(what, random.random)] for what in (first, second)]
    assert first.journal.text() is None
    assert drawn[0] != drawn[1]


def test_replay_goes_on_from_the_last_time() -> None:
    """A clock asked more often than recorded goes on by a millisecond, and the replay says so."""
    first = capture()
    seen = within(first, lambda: time.time())
    second = capture(first.journal.text(), replay=True)
    assert within(second, lambda: [time.time(), time.time()]) == [seen, seen + 0.001]
    assert [breach.cause for breach in second.journal.breaches] == ["code_change"]


WAITING: dict[str, Callable[[], Any]] = {
    "time": lambda: time.time(),
    "time_ns": lambda: time.time_ns() / 1e9,
    "monotonic": lambda: time.monotonic(),
    "clock_gettime": lambda: time.clock_gettime(time.CLOCK_REALTIME),
    "localtime": lambda: time.mktime(time.localtime()),
    "strptime": lambda: time.mktime(time.strptime(time.ctime())),
    "now": lambda: datetime.now().timestamp(),
    "now aware": lambda: datetime.now(BERLIN).timestamp(),
    "utcnow": lambda: utcnow().timestamp(),
    "today": lambda: datetime.today().timestamp(),
}


@pytest.mark.parametrize("name", WAITING)
@pytest.mark.parametrize("times", [0, 2], ids=["unrecorded", "recorded"])
def test_a_loop_that_waits_ends_in_replay(name: str, times: int) -> None:
    """A loop that found what it waited for live, and does not in replay, gets to the moment at which it gives up."""
    clock = WAITING[name]

    def wait(tries: int) -> list[Any]:
        seen = [clock()]
        until = seen[0] + 60
        while len(seen) < tries and seen[-1] < until:
            seen.append(clock())
        return seen

    first = capture()
    live = within(first, lambda: wait(times)) if times else []
    again = within(capture(first.journal.text(), replay=True), lambda: wait(100))
    assert again[: len(live)] == live
    assert again == sorted(again)
    assert len(again) < 40
    assert again[-1] >= again[0] + 60


def test_a_loop_that_waited_live_is_replayed() -> None:
    """A loop that ran out of time live takes the very same turns again."""

    def step() -> int:
        until, turns = time.monotonic() + 0.01, 0
        while time.monotonic() < until:
            turns += 1
        return turns

    live, again, journal = live_and_again(step)
    assert live == again > 0
    assert journal.breaches == []


def test_a_clock_may_be_asked_for_ever() -> None:
    """Beyond the recording a clock goes on, however often it is asked."""
    again = within(capture(replay=True), lambda: [(datetime.now(), time.localtime()) for _ in range(5000)])
    assert again == sorted(again)


def test_replay_without_a_recording_has_logical_time() -> None:
    """A clock that was never asked live shows the run's logical time in replay."""
    again = within(capture(replay=True), lambda: (time.time(), time.time_ns(), datetime.now(UTC), time.gmtime()))
    assert again == (NOW_S, int(NOW_S * 1e9), datetime.fromtimestamp(NOW_S, UTC), time.gmtime(NOW_S))


def test_replay_without_a_recording_has_seeded_entropy() -> None:
    """Entropy that was never asked for live is the same in every replay."""
    draws = [within(capture(replay=True), lambda: (os.urandom(4), uuid.uuid4(), uuid.uuid1())) for _ in range(2)]
    assert draws[0] == draws[1]
    assert draws[0][2].version == 1


def test_another_amount_of_entropy_is_a_change() -> None:
    """A replay that wants more bytes than were recorded gets them, and it is noted."""
    first = capture()
    within(first, lambda: os.urandom(4))
    second = capture(first.journal.text(), replay=True)
    assert len(within(second, lambda: os.urandom(8))) == 8
    assert [breach.cause for breach in second.journal.breaches] == ["code_change"]


def test_modules_have_series_of_their_own() -> None:
    """Another module's calls, more or fewer of them, never shift what a module gets."""
    source = "import time\ndef ask(): return time.time()"
    one, other = user_module(source, "shop.one")["ask"], user_module(source, "shop.other")["ask"]
    first = capture()
    live = within(first, lambda: [one(), other(), other(), one()])
    again = within(capture(first.journal.text(), replay=True), lambda: [one(), one(), other()])
    assert again == [live[0], live[3], live[1]]


def test_errors_are_the_originals() -> None:
    """A wrong argument fails as it always did, and is not recorded."""
    what = capture()
    wrong: list[tuple[type[Exception], Callable[[], Any]]] = [
        (ValueError, lambda: os.urandom(-1)),
        (TypeError, lambda: os.urandom("4")),  # type: ignore[arg-type]
        (IndexError, lambda: random.choice([])),
        (TypeError, lambda: datetime.now("UTC")),  # type: ignore[arg-type]
        (TypeError, lambda: time.time(1)),  # type: ignore[call-arg]
    ]
    for error, call in wrong:
        with pytest.raises(error):
            within(what, call)
    assert what.journal.text() is None


# -- who is captured -------------------------------------------------------------------------


def test_outside_of_a_step_everything_is_real() -> None:
    """Without a capture, and with one that does not want ambient sources, the originals answer."""
    random.seed(5)
    expected = random.Random(5).random()
    assert random.random() == expected
    without = capture(on=False)
    seen = within(without, lambda: (time.time(), uuid.uuid4(), datetime.now()))
    assert abs(seen[0] - time.time()) < 60
    assert without.journal.text() is None


def test_a_step_leaves_the_global_generator_alone() -> None:
    """A step that seeds and draws changes nothing for the code around it."""
    before = random.getstate()
    within(capture(), lambda: (random.seed(1), random.random(), random.setstate(random.Random(3).getstate())))
    assert random.getstate() == before


def test_a_state_comes_back() -> None:
    """getstate and setstate of a step work on the step's own chance."""

    def step() -> list[float]:
        state = random.getstate()
        first = random.random()
        random.setstate(state)
        return [first, random.random()]

    first, second = within(capture(), step)
    assert first == second


def test_seeded_generators_are_left_alone() -> None:
    """``random.Random(5)`` is what it always was."""
    assert within(capture(), lambda: random.Random(5).random()) == random.Random(5).random()


def test_the_standard_library_passes_through(tmp_path: Path) -> None:
    """Logging and temporary files inside of a step leave no trace in the journal and draw no chance."""
    what = capture()
    handler = logging.FileHandler(tmp_path / "log", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.getLogger("shop")
    log.addHandler(handler)

    def step() -> float:
        log.warning("sold")
        with tempfile.NamedTemporaryFile(dir=tmp_path) as file:
            assert Path(file.name).exists()
        threading.Event().wait(0.001)
        return random.random()

    drawn = within(what, step)
    log.removeHandler(handler)
    handler.close()
    assert what.journal.text() is None
    assert "sold" in (tmp_path / "log").read_text()
    assert drawn == within(capture(), lambda: random.random())


def test_infrastructure_passes_through() -> None:
    """A connection pool's or a tracer's calls are none of the step's."""
    ask = user_module("import time, uuid\ndef ask(): return time.time(), uuid.uuid4()", "sqlalchemy.pool.impl")["ask"]
    what = capture()
    within(what, ask)
    assert what.journal.text() is None


def test_a_script_has_the_name_it_is_imported_by() -> None:
    """What ran as ``python shop.py`` is served to a replay that imports ``shop``."""
    script = "import time\ndef ask(): return time.time()"
    code = f"""
        import sys, types
        from aos_workflow.determinism import ambient
        from aos_workflow.determinism.captured import Captured, captured
        from aos_workflow.journal import EffectJournal
        ambient.install()
        {script.splitlines()[0]}
        journal = EffectJournal()
        captured.set(Captured(journal=journal, seed=1, address="1.a", now_s=0.0, ambient=True, http=False))
        time.time()
        print(list(journal.ambient))
    """
    assert run_script(code, "shop.py") == "['time.time@shop']"


def run_script(code: str, name: str = "script.py") -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(textwrap.dedent(code), encoding="utf-8")
        ran = subprocess.run(
            [sys.executable, str(path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


# -- a module imported by a step -----------------------------------------------------------------

LAZY = """
    import random, secrets, threading, time, uuid
    from concurrent.futures import ThreadPoolExecutor
    from datetime import datetime
    from dataclasses import dataclass, field
    from shop_helper_early import helped
    generator = random.Random()
    class Settings:
        born = time.time(), datetime.now(), uuid.uuid4()
        luck = random.random()
    def draw(): return uuid.uuid1(), secrets.token_hex(4), random.randint(1, 9)
    drawn = draw(), helped()
    thread = threading.Thread(target=draw)
    thread.start(); thread.join()
    with ThreadPoolExecutor(1) as pool: pool.submit(draw).result()
    def ask(): return random.random(), str(uuid.uuid4()), time.time()
"""


def test_an_import_inside_of_a_step_shifts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step sees the same whether it is the one that imports a module or the module is there already."""
    (tmp_path / "shop_helper_early.py").write_text(
        "import random, time\ndef helped(): return random.random(), time.time()"
    )
    (tmp_path / "shop_lazy.py").write_text(textwrap.dedent(LAZY))
    monkeypatch.syspath_prepend(str(tmp_path))

    def step() -> list[Any]:
        import shop_helper_early  # type: ignore[import-not-found]
        import shop_lazy  # type: ignore[import-not-found]

        return [random.random(), shop_helper_early.helped()[0], *shop_lazy.ask()]

    def forget() -> None:
        for name in ("shop_lazy", "shop_helper_early"):
            sys.modules.pop(name, None)

    try:
        cold, warm = capture(), capture()
        seen_cold, seen_warm = within(cold, step), within(warm, step)
        assert seen_cold[:3] == seen_warm[:3]
        sizes = [{key: len(values) for key, values in what.journal.ambient.items()} for what in (cold, warm)]
        assert sizes == [{"time.time@shop_helper_early": 1, "uuid.uuid4@shop_lazy": 1, "time.time@shop_lazy": 1}] * 2
        for is_cold in (True, False, True):
            if is_cold:
                forget()
            for what, seen in ((cold, seen_cold), (warm, seen_warm)):
                again = capture(what.journal.text(), replay=True)
                assert within(again, step) == seen
                assert again.journal.breaches == []
    finally:
        forget()


def test_modules_have_chance_of_their_own() -> None:
    """More draws in one module never shift another's."""
    source = "import random\ndef ask(): return random.random(), random.Random().random()"
    one, other = user_module(source, "shop.one")["ask"], user_module(source, "shop.other")["ask"]
    assert within(capture(), lambda: [other(), other(), one()])[-1] == within(capture(), one)
    assert within(capture(), one) != within(capture(), other)


def test_seeding_is_for_all_modules() -> None:
    """A helper that seeds chance decides what its caller draws, as it does without a capture."""
    seed = user_module("import random\ndef seed(n): random.seed(n)", "shop.helper")["seed"]

    def step() -> float:
        random.random()
        seed(5)
        return random.random()

    assert within(capture(), step) == random.Random(5).random()


# -- names bound early -----------------------------------------------------------------------

EARLY = """
    from datetime import datetime
    from os import urandom
    from random import choice, random
    from secrets import token_hex
    from time import strftime, time
    from timeit import default_timer
    from uuid import uuid1, uuid4
    now = datetime.now
    def ask():
        return [time(), random(), choice(range(1000)), uuid1(), uuid4(), urandom(4), token_hex(4), now(),
                strftime("%c"), default_timer()]
"""


def test_names_bound_early_are_adopted() -> None:
    """``from time import time`` before the gates came: adopted, it is captured like ``time.time``."""
    ambient.uninstall()
    module = user_module(EARLY)
    ambient.install()
    ambient.adopt(module)
    live, again, journal = live_and_again(module["ask"])
    assert live == again
    assert journal.breaches == []
    assert "time.time@shop.pricing" in journal.ambient


def test_entropy_needs_no_adopting() -> None:
    """Default factories, closures and defaults that hold uuid4 or token_hex are captured without being reached."""

    @dataclass
    class Order:
        id: uuid.UUID = field(default_factory=uuid.uuid4)
        token: str = field(default_factory=secrets.token_hex)

    live, again, _ = live_and_again(lambda: [Order(), Order()])
    assert live == again


def test_loaded_modules_are_adopted_at_once() -> None:
    """Modules that are there when the gates come are searched, and given back their own names afterwards."""
    ambient.uninstall()
    module = ModuleType("shop_loaded_early")
    exec(textwrap.dedent(EARLY), vars(module))
    original = vars(module)["time"]
    sys.modules[module.__name__] = module
    try:
        ambient.install()
        assert vars(module)["time"] is time.time
        assert vars(module)["time"] is not original
        ambient.uninstall()
        assert vars(module)["time"] is original
    finally:
        del sys.modules[module.__name__]


def test_a_module_that_grew_is_adopted_again() -> None:
    """A name that a module got after it was adopted is found the next time."""
    ambient.uninstall()
    original = time.time
    ambient.install()
    module = user_module("def ask(): return late()")
    ambient.adopt(module)
    module["late"] = original
    ambient.adopt(module)
    assert module["late"] is time.time


def test_infrastructure_keeps_its_names() -> None:
    """The names of the standard library and of infrastructure are not touched."""
    ambient.uninstall()
    original = time.time
    module = user_module("from time import time", "celery.beat")
    ambient.install()
    ambient.adopt(module)
    assert module["time"] is original


def test_values_are_not_asked_for_their_hash() -> None:
    """Adopting looks at functions only: a user's object whose hash or comparison fails is left in peace."""

    class Touchy:
        def __hash__(self) -> int:
            raise AssertionError

        def __eq__(self, other: object) -> bool:
            raise AssertionError

    module = user_module("x = None")
    module["x"] = Touchy()
    module["bound"] = [].append
    ambient.adopt(module)


# -- gates are good replacements -------------------------------------------------------------


def test_gates_are_no_descriptors() -> None:
    """A class attribute that holds a clock is called without the instance, as builtins are."""

    class Timer:
        clock: Any = time.perf_counter
        fresh: Any = uuid.uuid1
        draw: Any = random.random
        now: Any = datetime.now

    timer = Timer()
    assert timer.clock() <= timer.clock()
    assert [type(value).__name__ for value in (timer.fresh(), timer.draw(), timer.now())] == [
        "UUID",
        "float",
        "datetime",
    ]


def test_gates_travel_by_name() -> None:
    """A gate handed to another process is the function of that name there; a copied one is itself."""
    gates: list[tuple[Callable[..., Any], tuple[Any, ...], type]] = [
        (time.time, (), float),
        (random.random, (), float),
        (random.sample, ([1, 2, 3], 2), list),
        (uuid.uuid1, (), uuid.UUID),
        (os.urandom, (4,), bytes),
        (datetime.now, (), datetime),
    ]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        for gate, arguments, kind in gates:
            assert isinstance(processes.submit(gate, *arguments).result(60), kind)
    assert [copy.deepcopy(gate) for gate, _, _ in gates] == [copy.copy(gate) for gate, _, _ in gates]
    assert copy.deepcopy(time.time) == time.time


class ByValue(pickle.Pickler):
    """Takes apart what cloudpickle takes apart: bound methods, and modules by name."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, MethodType):
            return MethodType, (value.__func__, value.__self__)
        if value is MethodType:
            return getattr, (types, "MethodType")
        if isinstance(value, ModuleType):
            return import_module, (value.__name__,)
        return NotImplemented


def pickled_by_value(value: Any) -> bytes:
    stream = io.BytesIO()
    ByValue(stream).dump(value)
    return stream.getvalue()


def test_gates_travel_inside_of_a_function() -> None:
    """cloudpickle, which takes functions and bound methods apart, finds the gates by name, here and elsewhere."""
    module = user_module("""
        from datetime import datetime
        from os import urandom
        from random import Random, randint, sample
        from threading import Thread
        from time import perf_counter, strftime
        from uuid import uuid1
        def outer():
            def job(): return perf_counter(), randint(1, 2), sample([1], 1), urandom(1), uuid1(), datetime.now()
            return job
    """)
    job = module["outer"]()
    used = {name: module[name] for name in job.__code__.co_names if name in module}
    used.update(
        now=datetime.now, seed=random.Random.seed, start=threading.Thread.start, submit=ThreadPoolExecutor.submit
    )
    used["apply"] = ThreadPool.apply_async
    written = pickled_by_value(used)
    again = pickle.loads(written)  # noqa: S301
    assert again["perf_counter"].__func__ is time.perf_counter.__func__  # type: ignore[attr-defined]
    assert again["seed"] is random.Random.seed
    assert isinstance(within(capture(), again["perf_counter"]), float)
    code = f"""
        import pickle
        used = pickle.loads({written!r})
        print(used["randint"](3, 3), used["sample"]([1], 1))
        print(type(used["perf_counter"]()).__name__, used["now"]().year > 1)
        from aos_workflow.determinism import ambient
        ambient.install()
        print(used["randint"](3, 3), len(used["urandom"](4)))
    """
    assert run_script(code).split() == ["3", "[1]", "float", "True", "3", "4"]


def test_gates_look_like_what_they_replace() -> None:
    """Name, module, signature and text of the originals."""
    assert (time.time.__name__, time.time.__qualname__, time.time.__module__) == ("time", "time", "time")
    assert "floating" in (time.time.__doc__ or "")
    assert list(inspect.signature(random.randint).parameters) == ["a", "b"]
    assert list(inspect.signature(random.shuffle).parameters) == ["x"]


def test_date_classes_stay() -> None:
    """The classes are the ones they were: only what they answer is captured."""
    moment = within(capture(), lambda: datetime.now())
    assert type(moment) is datetimes.datetime is datetime
    assert isinstance(moment, date)
    assert ambient.limits() == ()


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: Moment.now(), Moment),
        (lambda: Moment.now(UTC), Moment),
        (lambda: Moment.today(), Moment),
        (lambda: Day.today(), Day),
        (lambda: date.today(), date),
        (lambda: datetime.today(), datetime),
    ],
)
def test_subclasses_get_themselves(call: Callable[[], Any], kind: type) -> None:
    """A subclass's ``now`` and ``today`` return the subclass: outside, live and in replay."""
    live, again, _ = live_and_again(call)
    assert type(call()) is type(live) is type(again) is kind


def test_a_naive_moment_keeps_its_wall_clock(time_zone: Callable[[str], None]) -> None:
    """A replay in another time zone sees the very wall clock that the step saw."""
    time_zone("America/New_York")
    first = capture()

    def step() -> list[Any]:
        return [datetime.now(), datetime.today(), date.today(), time.localtime(), time.ctime(), time.strftime("%c %Z")]

    live = within(first, step)
    time_zone("Asia/Tokyo")
    assert within(capture(first.journal.text(), replay=True), step) == live


@pytest.mark.parametrize("zone", [UTC, BERLIN, timezone(timedelta(hours=-3, minutes=-30))], ids=str)
def test_an_aware_moment_has_the_callers_zone(zone: Any) -> None:
    """``now(tz)`` is the same instant in replay, shown by the caller's own tzinfo."""
    live, again, _ = live_and_again(lambda: datetime.now(zone))
    assert live == again
    assert live.tzinfo is again.tzinfo is zone
    assert abs(live.timestamp() - time.time()) < 60


def test_the_repeated_hour_is_told_apart(time_zone: Callable[[str], None]) -> None:
    """A recorded wall clock of the hour that a time zone has twice says which of the two it was."""
    time_zone("Europe/Berlin")
    recorded = json.dumps({"ambient": {f"datetime.now@{HERE}": ["2024-10-27T02:30:00.000001#fold"]}})
    moment = within(capture(recorded, replay=True), lambda: datetime.now())
    assert (moment.fold, moment.timestamp()) == (1, datetime(2024, 10, 27, 1, 30, 0, 1, UTC).timestamp())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="utcnow is deprecated since 3.12")
def test_a_deprecation_names_the_callers_line() -> None:
    """The warning about utcnow points at who called it."""
    with pytest.warns(DeprecationWarning, match="utcnow") as caught:
        datetime.utcnow()
    assert caught[0].filename == __file__


def test_time_machine_may_come_later() -> None:
    """time-machine, which expects C functions, works when it is imported after the gates are in place."""
    pytest.importorskip("time_machine")
    code = """
        from aos_workflow.determinism import ambient
        ambient.install()
        import time_machine, time, datetime
        with time_machine.travel(86_400.0, tick=False):
            print(time.time(), datetime.datetime.now(datetime.timezone.utc).isoformat())
        print(time.time() > 1e9)
    """
    assert run_script(code).split() == ["86400.0", "1970-01-02T00:00:00+00:00", "True"]


def test_numpy_generators_are_captured() -> None:
    """``numpy.random.default_rng()`` seeds itself from ``secrets`` and so draws the same in replay."""
    numpy = pytest.importorskip("numpy")
    live, again, _ = live_and_again(lambda: numpy.random.default_rng().integers(0, 1_000_000, 4).tolist())
    assert live == again


# -- threads, nesting, processes -------------------------------------------------------------


def everything() -> dict[str, Any]:
    return {name: call() for name, call in CALLS.items()}


def test_threads_of_a_step_share_its_capture() -> None:
    """A thread that a step starts records into and is served from the step's journal."""

    def step() -> dict[str, Any]:
        seen: dict[str, Any] = {}
        thread = threading.Thread(target=lambda: seen.update(everything()))
        thread.start()
        thread.join()
        return seen

    live, again, journal = live_and_again(step)
    assert len(live) == len(CALLS)
    assert live == again
    assert journal.breaches == []


@pytest.mark.parametrize(
    "pool",
    [lambda: ThreadPoolExecutor(1), lambda: ThreadPool(1)],
    ids=["executor", "thread pool"],
)
def test_pools_of_a_step_share_its_capture(pool: Callable[[], Any]) -> None:
    """So does work that a step hands to a pool of threads, also when it hands over the function itself."""

    def step() -> list[Any]:
        with pool() as threads:
            return [*threads.map(lambda _: everything(), range(2)), *threads.map(os.urandom, [4, 4])]

    live, again, _ = live_and_again(step)
    assert live == again


def test_a_pool_serves_whoever_submits() -> None:
    """A pool that was first used in one step records each job into the journal of the step that submitted it."""
    first, second = capture(), capture()
    with ThreadPoolExecutor(1) as pool:
        for what in (first, second, None):
            within(what, lambda: pool.submit(lambda: time.time()).result())
    assert [len(what.journal.ambient[f"time.time@{HERE}"]) for what in (first, second)] == [1, 1]


@pytest.mark.parametrize(
    "hand_over",
    [
        lambda pool, job: pool.apply(job, (1,)),
        lambda pool, job: pool.map(job, [1])[0],
        lambda pool, job: pool.starmap(job, [(1,)])[0],
        lambda pool, job: next(pool.imap(job, [1])),
        lambda pool, job: next(pool.imap(job, [1], 5)),
        lambda pool, job: next(pool.imap_unordered(job, [1])),
        lambda pool, job: next(pool.imap(lambda item: item, (job(item) for item in [1]))),
        lambda pool, job: called_back(lambda back: pool.apply_async(abs, (-1,), callback=lambda one: back(job(one)))),
        lambda pool, job: called_back(lambda back: pool.map_async(abs, [1], callback=lambda one: back(job(one)))),
        lambda pool, job: called_back(lambda back: pool.apply_async(int, ("x",), {}, None, lambda e: back(job(e)))),
    ],
    ids=["apply", "map", "starmap", "imap", "imap chunks", "unordered", "items", "called", "called map", "failed"],
)
def test_a_thread_pool_serves_whoever_submits(hand_over: Callable[[ThreadPool, Callable[[Any], Any]], Any]) -> None:
    """A thread pool made in one step and kept: its jobs belong to the steps that submit them."""
    kept: list[ThreadPool] = []

    def step() -> Any:
        if not kept:
            kept.append(ThreadPool(1))
        return hand_over(kept[0], lambda _: (random.random(), str(uuid.uuid4())))

    try:
        whats = [capture() for _ in range(3)]
        live = [within(what, step) for what in whats]
        assert len({luck for luck, _ in live}) == 1
        assert [len(what.journal.ambient[f"uuid.uuid4@{HERE}"]) for what in whats] == [1, 1, 1]
        for what in whats:
            what.is_over = True
        for what, seen in zip(whats, live, strict=True):
            assert within(capture(what.journal.text(), replay=True), step) == seen
        assert step() not in live
    finally:
        kept[0].terminate()


def called_back(start: Callable[[Callable[[Any], None]], Any]) -> Any:
    got: list[Any] = []
    done = threading.Event()

    def back(value: Any) -> None:
        got.append(value)
        done.set()

    start(back)
    assert done.wait(10)
    return got[0]


def test_a_capture_that_is_over_goes_nowhere() -> None:
    """What a step left behind neither draws from its chance nor hands its capture on."""
    what = capture()
    what.is_over = True
    seeded = within(capture(), lambda: random.random())
    seen: list[Any] = []

    def step() -> list[Any]:
        random.Random()
        thread = threading.Thread(target=lambda: seen.append(captured.get()))
        thread.start()
        thread.join()
        with ThreadPoolExecutor(1) as pool, ThreadPool(1) as threads:
            seen.extend([pool.submit(captured.get).result(), threads.apply(captured.get)])
        return [random.random(), secrets.token_hex(4), time.time(), datetime.now()]

    assert within(what, step)[0] != seeded
    assert seen == [None, None, None]
    assert what.journal.text() is None


def test_a_threads_own_variables_stay_its_own() -> None:
    """A thread gets the capture, and nothing else of the step's context."""

    def step() -> int:
        decimal.getcontext().prec = 5
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: decimal.getcontext().prec).result()

    assert copy_context().run(within, capture(), step) == decimal.DefaultContext.prec


def test_a_thread_that_outlives_its_step_is_free() -> None:
    """When the step is over, threads it left behind see real time and record no more."""
    what, over = capture(), threading.Event()
    seen: list[float] = []

    def linger() -> None:
        over.wait(10)
        seen.append(time.time())

    def step() -> threading.Thread:
        thread = threading.Thread(target=linger)
        thread.start()
        return thread

    thread = within(what, step)
    what.is_over = True  # type: ignore[attr-defined,unused-ignore]
    over.set()
    thread.join()
    assert len(seen) == 1
    assert what.journal.text() is None


def test_steps_at_once_see_their_own() -> None:
    """Steps in threads of one process draw from their own seed and record into their own journal."""
    barrier = threading.Barrier(8)

    def attempt(seed: int) -> tuple[list[Any], Captured]:
        what = capture(seed=seed)
        barrier.wait()
        return within(what, lambda: [(random.random(), time.time_ns(), uuid.uuid4()) for _ in range(200)]), what

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(attempt, range(8)))
    for seed, (live, what) in enumerate(done):
        assert [row[1] for row in live] == what.journal.ambient[f"time.time_ns@{HERE}"]
        alone = within(capture(seed=seed), lambda: [random.random() for _ in range(200)])
        assert [row[0] for row in live] == alone


def test_captures_nest() -> None:
    """A step performed inside of a step has its own capture, and the outer one goes on where it was."""
    outer, inner = capture(seed=1), capture(seed=2)

    def step() -> list[float]:
        before = random.random()
        within(inner, lambda: (random.random(), time.time()))
        return [before, random.random()]

    assert within(outer, step) == within(capture(seed=1), lambda: [random.random(), random.random()])
    assert outer.journal.text() is None


def test_a_finaliser_inside_of_the_journal_passes_through() -> None:
    """What a garbage collector or a signal runs while a value is recorded neither waits for ever nor is recorded."""

    class Clocked(EffectJournal):
        def draw(self, series: str, live: Callable[[], Any], beyond: Callable[[], Any]) -> Any:
            return super().draw(series, lambda: [live(), time.time() > 0][0], beyond)

    what = Captured(journal=Clocked(), seed=1, address="1.a", now_s=0.0, ambient=True, http=False)
    within(what, lambda: time.time())
    assert len(what.journal.ambient[f"time.time@{HERE}"]) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_free() -> None:
    """A child forked by a step works, and sees real time and chance of its own."""
    reader, writer = os.pipe()

    def step() -> tuple[float, int]:
        drawn = random.random()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            os.write(writer, json.dumps([random.random(), time.time(), str(uuid.uuid4())]).encode())
            os._exit(0)
        os.waitpid(child, 0)
        return drawn, len(os.read(reader, 1000))

    what = capture()
    drawn, written = within(what, step)
    os.close(reader)
    os.close(writer)
    assert written > 0
    assert what.journal.text() is None
    assert drawn == within(capture(), lambda: random.random())


def test_installing_at_once_happens_once() -> None:
    """Threads that all install at the same time put one gate in front of each function, and uninstall removes it."""
    ambient.uninstall()
    original, now = time.time, datetime.now
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: ambient.install(), range(32)))
    assert time.time is not original
    assert datetime.now != now
    ambient.uninstall()
    assert time.time is original
    assert datetime.now == now


# -- any sequence ----------------------------------------------------------------------------

SEQUENCES = st.lists(st.sampled_from(sorted(CALLS)), max_size=30)


@given(SEQUENCES)
def test_any_sequence_is_the_same_in_replay(names: list[str]) -> None:
    """Any sequence of ambient calls is equal live and in replay, in one thread and in threads at once."""

    def step() -> list[Any]:
        return [CALLS[name]() for name in names]

    live, again, journal = live_and_again(step)
    assert live == again
    assert journal.breaches == []
    text = journal.text()
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(lambda _: within(capture(text, replay=True), step), range(4)))
    assert at_once == [live] * 4


@given(SEQUENCES)
def test_the_journal_depends_on_the_calls_alone(names: list[str]) -> None:
    """Two live performances record the same series with the same number of values."""

    def sizes() -> dict[str, int]:
        what = capture()
        within(what, lambda: [CALLS[name]() for name in names if "randbelow" not in name and "choice" not in name])
        return {series: len(values) for series, values in what.journal.ambient.items() if "SystemRandom" not in series}

    assert sizes() == sizes()
