"""The determinism lint: what it finds in step code, and what it leaves alone.

In a snippet a comment ``#! rule`` (or ``#! rule rule``) marks a line on which exactly these rules find something.
"""

from __future__ import annotations

import ast
import re
import textwrap

import pytest

from aos_workflow.determinism.lint import RULES, Finding, lint

STEP = """
import asyncio, datetime, functools, getpass, glob, hashlib, http.client, io, itertools, json, locale, logging, math
import multiprocessing, os, pathlib, platform, queue, random, secrets, smtplib, socket, sqlite3, subprocess, sys
import tempfile, threading, time, urllib.request, uuid
import boto3, httpx, numpy as np, requests
from collections import Counter, defaultdict, deque
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, date, datetime as dt, timedelta
from pathlib import Path
from time import time as now
from celery import shared_task
from aos_workflow import StepContext, step, workflow

log = logging.getLogger(__name__)
LIMITS = {"a": 1}
NAMES = ["a", "b"]
WANTED = frozenset({"a", "b"})

@step
def perform(ctx: StepContext, words: list[str], given):
"""


def in_step(body: str) -> str:
    """The source of a module with one step that has this body."""
    return STEP + textwrap.indent(textwrap.dedent(body).strip(), "    ") + "\n"


def found(source: str, *, everything: bool = False) -> list[Finding]:
    return lint(source, file="steps.py", everything=everything)


def marks(source: str) -> list[tuple[int, str]]:
    """Line and rule of each mark in the snippet."""
    lines = enumerate(source.splitlines(), start=1)
    return sorted((number, rule) for number, line in lines for rule in re.sub(r"^.*?(#!|$)", "", line).split())


def assert_as_marked(source: str, *, everything: bool = False) -> None:
    findings = found(source, everything=everything)
    shown = "\n".join(f"{one.line}:{one.column} {one.rule} {one.message}" for one in findings)
    assert sorted((one.line, one.rule) for one in findings) == marks(source), shown


SOURCES = {
    "unseeded-random": [
        "random.random()", "random.choice(words)", "random.shuffle(words)", "random.Random()", "random.Random(None)",
        "random.seed(1)", "np.random.rand(3)", "np.random.default_rng()", "np.random.RandomState()",
        "np.random.seed(1)", "np.random.shuffle(words)", "sorted(words, key=lambda word: random.random())",
    ],
    "wall-clock": [
        "time.time()", "now()", "time.time_ns()", "time.monotonic()", "time.perf_counter()", "time.localtime()",
        "time.gmtime()", "time.gmtime(None)", "time.ctime()", "time.strftime('%Y')", "dt.now()", "dt.now(UTC)",
        "dt.now(tz=UTC)", "dt.utcnow()", "dt.today()", "date.today()", "datetime.datetime.now()",
        "datetime.date.today()", "dt.now(UTC).isoformat()", "[time.time() for _ in words]",
        "np.datetime64('now')",
    ],
    "local-time-zone": ["dt.fromtimestamp(given)", "date.fromtimestamp(given)", "time.localtime(given)"],
    "random-uuid": ["uuid.uuid4()", "uuid.uuid1()", "str(uuid.uuid4())", "uuid.uuid4().hex"],
    "os-entropy": [
        "os.urandom(8)", "secrets.token_hex()", "secrets.choice(words)", "random.SystemRandom()",
        "random.SystemRandom().random()", "secrets.SystemRandom()",
    ],
    "set-order": [
        "list(set(words))", "tuple({*words})", "[word for word in set(words)]", "{word: 1 for word in set(words)}",
        "list(word for word in set(words))", "', '.join(set(words))", "next(iter(set(words)))", "set(words).pop()",
        "[*set(words)]", "given(*set(words))", "enumerate(set(words))", "list(set(words) | {'a'})",
        "list(set(words).union(given))", "list(words.keys() & given.keys())", "list({'a'} - set(given))",
        "list(frozenset(words))", "list(WANTED)", "f'{set(words)}'", "str(set(words))", "dict.fromkeys(set(words))",
        "list(zip(set(words), given))", "list(map(str, set(words)))", "words.extend(set(given))",
        "list(itertools.islice(set(words), 2))", "max(set(words), key=words.count)", "sorted(set(words), key=len)",
        "sorted(set(words), key=lambda word: -len(word))", "functools.reduce(max, set(words))",
        "sum(float(word) for word in set(words))", "list({'b', 'a'})", "list(set(words) if given else words)",
        "list(set(words) or words)", "deque(set(words))", "list((kept := set(words)))",
    ],
    "object-identity": [
        "id(given)", "hash(given)", "hash('a')", "object.__repr__(given)", "sorted(words, key=id)",
        "sorted(words, key=hash)",
    ],
    "environment": [
        "os.environ['HOME']", "os.environ.get('HOME')", "dict(os.environ)", "os.getenv('HOME')",
        "socket.gethostname()", "platform.node()", "platform.system()", "os.getcwd()", "Path.cwd()", "Path.home()",
        "locale.getlocale()", "getpass.getuser()", "time.tzname", "os.cpu_count()", "sys.argv[1:]",
        "Path('a').resolve()", "os.path.abspath('a')", "os.path.expanduser('~')",
    ],
    "filesystem": [
        "open('a')", "open('a', 'w').write('b')", "Path('a').read_text()", "Path('a').write_bytes(b'')",
        "(Path(given) / 'b').exists()", "Path(given).parent.joinpath('c').open()", "os.path.exists(given)",
        "os.remove(given)", "tempfile.TemporaryDirectory()", "sorted(os.listdir('.'))", "sorted(Path('a').iterdir())",
        "sorted(p.name for p in Path('a').glob('*'))", "len(glob.glob('*'))", "list(filter(Path.exists, given))",
        "np.load('a.npy')",
    ],
    "directory-order": [
        "os.listdir('.')", "list(os.scandir('.'))", "list(os.walk('.'))", "glob.glob('*.csv')",
        "[p.name for p in Path('a').iterdir()]", "list(Path('a').rglob('*'))",
    ],
    "process-identity": [
        "os.getpid()", "threading.get_ident()", "threading.current_thread().name",
        "multiprocessing.current_process().name",
    ],
    "thread-race": [
        "threading.Thread(target=given)", "as_completed(given)", "asyncio.as_completed(given)",
        "given.imap_unordered(str, words)", "ThreadPoolExecutor(4)", "multiprocessing.Pool(4)",
    ],
    "external-call": [
        "requests.get(given)", "requests.get(given).json()", "requests.Session().get(given)", "httpx.post(given)",
        "httpx.Client().get(given)", "urllib.request.urlopen(given)", "http.client.HTTPConnection(given)",
        "socket.socket()", "socket.create_connection(given)", "subprocess.run(['ls'])", "subprocess.Popen(['ls'])",
        "os.system('ls')", "smtplib.SMTP(given)", "boto3.client('s3')", "sqlite3.connect('a.db')",
        "list(map(requests.get, words))",
    ],
    "module-state": [
        "LIMITS['b'] = 2", "LIMITS.update(b=2)", "NAMES.append('c')", "del LIMITS['a']", "LIMITS['a'] += 1",
        "NAMES[:] = []", "LIMITS.setdefault('b', []).append(1)", "perform.cache = words", "log.level = 3",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "code"), [(rule, code) for rule, codes in SOURCES.items() for code in codes], ids=lambda value: value
)
def test_each_source_is_found_once(rule: str, code: str) -> None:
    """A step with one source of non-determinism has one finding, of its rule, with its cause and a fix."""
    (finding,) = found(in_step(code))
    assert (finding.rule, finding.step) == (rule, "perform")
    assert finding.cause == RULES[rule].cause
    assert finding.fix


CLEAN = [
    "return random.Random(ctx.seed).random()",
    "chance = random.Random(given)\nreturn chance.sample(words, 2)",
    "return ctx.random.choice(words)",
    "return np.random.default_rng(ctx.seed).normal()",
    "return np.random.Generator(np.random.PCG64(given)).random()",
    "return ctx.numpy_random.random()",
    "return np.sort(np.array(words)).tolist()",
    "return isinstance(given, random.Random)",
    "return ctx.now.isoformat()",
    "return dt.fromisoformat(given) + timedelta(days=1)",
    "return dt.fromtimestamp(given, UTC)",
    "return dt.fromtimestamp(given, tz=UTC)",
    "return dt(2026, 1, 1, tzinfo=UTC), date.fromisoformat(given)",
    "return time.strftime('%Y', given)",
    "return time.gmtime(given)",
    "time.sleep(1)",
    "return ctx.uuid(), uuid.uuid5(uuid.NAMESPACE_URL, given), uuid.UUID(given)",
    "return secrets.compare_digest(given, words[0])",
    "wanted = set(words)\nreturn [word for word in given if word in wanted]",
    "return 'a' in set(words)",
    "return sorted(set(words))",
    "return sorted(set(words), key=str)",
    "return sorted(set(words), key=lambda word: (len(word), word))",
    "return len(set(words)), max(set(words)), any(word for word in set(words))",
    "return sum(len(word) for word in set(words))",
    "return sorted(word.upper() for word in set(words) if word)",
    "return sorted(list(set(words)))",
    "return ', '.join(sorted({*words}))",
    "return {word.upper() for word in set(words)}",
    "return set(words) == {word for word in set(given)}",
    "return set(words) <= set(given)",
    "kept = set(words)\nkept = sorted(kept)\nreturn [word for word in kept]",
    "kept = list(set(words))\nkept.sort()\nreturn kept",
    "kept = set(words)\nkept.update(set(given))\nkept.discard('a')\nreturn sorted(kept)",
    "total = 0\nfor word in set(words):\n    total += 1\nreturn total",
    "kept = set()\nfor word in set(words):\n    kept.add(word.upper())\nreturn sorted(kept)",
    "for word in set(words):\n    if word not in given:\n        return False\nreturn True",
    "kept = []\nfor word in set(words):\n    kept.append(word.upper())\nreturn sorted(kept)",
    "kept = set(words)\nif len(kept) == 1:\n    return kept.pop()",
    "kept = set(words)\nif len(kept) != 1:\n    raise ValueError\nreturn next(iter(kept))",
    "kept = set(words)\nassert len(kept) == 1\n(one,) = kept\nreturn one",
    "return list({given})",
    "return [key for key in given.keys()], list({'a': 1, 'b': 2}), [*given.items()]",
    "return list(dict.fromkeys(words))",
    "seen = {}\nfor word in words:\n    seen[word] = seen.get(word, 0) + 1\nreturn list(seen.items())",
    "return Counter(words).most_common(3)",
    "return Counter(set(words))['a']",
    "return hash(1), hash((1, 2))",
    "return hashlib.sha256(given).hexdigest()",
    "return os.path.join(given, 'a'), os.path.basename(given), os.sep, os.linesep",
    "return str(Path(given) / 'a'), Path(given).name, Path(given).with_suffix('.b').parent",
    "return io.StringIO(given).read(), json.loads(given)",
    "return np.load(io.BytesIO(given))",
    "found = sqlite3.connect(':memory:').execute(given)",
    "counts = defaultdict(int)\ncounts['a'] += 1\nreturn dict(counts)",
    "names = list(NAMES)\nnames.append('c')\nreturn names",
    "limits = {**LIMITS}\nlimits['b'] = 2\nreturn limits",
    "limits = LIMITS.copy()\nlimits['b'] = 2\nreturn LIMITS.get('a'), NAMES[0], limits",
    "with ThreadPoolExecutor(4) as pool:\n    return list(pool.map(str, words))",
    "async def both():\n    return await asyncio.gather(*map(given, words))\nreturn asyncio.run(both())",
    "line = queue.Queue()\nline.put(1)\nreturn line.get()",
    "try:\n    return int(given)\nexcept requests.RequestException as error:\n    raise ValueError(given) from error",
    "return http.client.OK, subprocess.PIPE, socket.AF_INET, http.client.responses[200]",
    "return socket.ntohs(given), socket.inet_aton(given)",
    "numbers = itertools.count(1)\nreturn [next(numbers) for _ in words]",
    "deadline: dt = given\nreturn deadline.replace(year=2026)",
    "random = ctx.random\nreturn random.random()",
    "time = given['time']\nopen = given['open']\nreturn open(time.time())",
    "return [hash for hash in words], [id for id in words]",
    "id = given['id']\nreturn {'id': id}",
    "ctx.log.info('took %s', time.perf_counter())\nlog.debug('in %s: %s', os.getpid(), set(words))",
    "started = time.monotonic()\ngiven()\ntook = time.monotonic() - started\nlog.info('took %.1f s', took)",
    "return ctx.effect('rate', requests.get, given)",
    "return ctx.effect('rate', lambda: requests.get(given).json())",
    "return ctx.effect('rate', functools.partial(requests.get, given, timeout=3))",
    "return ctx.effect('text', Path(given).read_text)",
    "def ask():\n    return requests.get(given).json()\nreturn ctx.effect('rate', ask)",
    "ask = lambda: 1\nreturn ctx.effect('rate', function=lambda: os.environ['A'])",
]


@pytest.mark.parametrize("body", CLEAN, ids=lambda body: body.replace("\n", "; ")[:70])
def test_clean_code_is_left_alone(body: str) -> None:
    """Idiomatic code without chance, time or the world has no finding."""
    source = in_step(body)
    ast.parse(source)
    assert [(one.rule, one.message) for one in found(source)] == []


MODULES = {
    "every decorator that makes a step": """
        import time
        import aos_workflow as aos
        import celery
        from aos_workflow import step, workflow
        from aos_workflow.registry import step as declared
        from celery import Celery, shared_task
        from .steps import step as ours
        from .app import app as theirs
        app = Celery()

        @step
        def one(): return time.time()  #! wall-clock
        @step(cost=2)
        def two(): return time.time()  #! wall-clock
        @shared_task
        def three(): return time.time()  #! wall-clock
        @app.task(bind=True)
        def four(self): return time.time()  #! wall-clock
        @workflow("five")
        def five(): return time.time()  #! wall-clock
        @aos.step
        def six(): return time.time()  #! wall-clock
        @celery.shared_task(name="x")
        async def seven(): return time.time()  #! wall-clock
        @theirs.task
        def eight(): return time.time()  #! wall-clock
        def factory(app):
            @app.task
            def nine(): return time.time()  #! wall-clock
        def no_step(): return time.time()
        """,
    "the decorators of others make no step": """
        import allure, invoke, time
        from pytest_bdd import step
        @step
        def one(): return time.time()
        @allure.step("two")
        def two(): return time.time()
        @invoke.task
        def three(): return time.time()
        """,
    "module code is not step code": """
        import os, random, requests
        from aos_workflow import step
        HOME = os.environ["HOME"]
        CLIENT = requests.Session()
        random.seed(1)
        for name in {"a", "b"}:
            print(name)
        @step
        def one(): return HOME
        if __name__ == "__main__":
            print(random.random())
        """,
    "what a step calls in its file, however far": """
        import time
        from aos_workflow import step
        @step
        def one(): return [two(), sorted([1], key=key), given(last)]
        def two(): return three()
        def three(): return time.time()  #! wall-clock
        def key(value): return time.time()  #! wall-clock
        def last(): return time.time()  #! wall-clock
        def never(): return time.time()
        """,
    "methods of the classes that a step uses": """
        import time
        from aos_workflow import step
        class Base:
            def at(self): return time.time()  #! wall-clock
        class Clock(Base):
            def __init__(self): self.began = time.time()  #! wall-clock
            def read(self): return self._read()
            def _read(self): return time.time()  #! wall-clock
            def never(self): return time.time()
            @property
            def late(self): return time.time()  #! wall-clock
        class Unused:
            def __init__(self): self.began = time.time()
            def read(self): return time.time()
        @step
        def one():
            clock = Clock()
            return clock.read(), clock.late, clock.at()
        """,
    "a method is found through an object nothing is known of": """
        import time
        from aos_workflow import step
        class Base:
            def read(self): return time.time()  #! wall-clock
        class Clock(Base):
            pass
        class Unused:
            def read(self): return time.time()
        @step
        def one(): return use({"clock": Clock()})
        def use(clocks): return clocks["clock"].read()
        """,
    "an effect step may do anything whose answer is recorded": """
        import os, random, requests, time, uuid
        from aos_workflow import step
        CACHE = {}
        @step(effect=True)
        def one(url):
            CACHE[url] = 1  #! module-state
            for name in {"a", "b"}:  #! set-order
                requests.post(url, name)
            return [requests.get(url), open(url), os.environ, time.time(), random.random(), uuid.uuid4(), ask(url)]
        def ask(url): return requests.get(url)
        @step(effect=False)
        def two(url): return requests.get(url)  #! external-call
        """,
    "a function is strict when anything strict leads to it": """
        import requests
        from aos_workflow import step
        @step(effect=True)
        def one(url): return ask(url)
        @step
        def two(url): return ask(url)
        @step
        def three(ctx, url): return ctx.effect("answer", also, url)
        def ask(url): return requests.get(url)  #! external-call
        def also(url): return requests.get(url)
        """,
    "what an effect is given is made every time": """
        import requests, time
        from aos_workflow import step
        @step
        def one(ctx, url):
            ctx.effect("a", requests.get, time.time())  #! wall-clock
            return ctx.effect("b", requests.get(url).json)  #! external-call
        """,
    "an effect step is no plain function": """
        from aos_workflow import step
        @step(effect=True)
        def fetch(url): return 1
        @step
        def one(ctx, url):
            tools = {"fetch": fetch}
            ctx.replace(fetch.s(url) | tools["fetch"].s())
            fetch.delay(url)  #! external-call
            return fetch(url)  #! external-call
        """,
    "writes to what the process keeps": """
        import itertools
        from aos_workflow import step
        from . import basket
        from .state import settings
        from celery import shared_task
        COUNT = 0
        SEEN = set()
        NUMBERS = itertools.count()
        class Row:
            rows = []
            total = 0
            def __init__(self): self.cells = []
            def keep(self):
                self.rows.append(1)  #! module-state
                self.cells.append(1)
                Row.total += 1  #! module-state
        @step
        def one(word, seen=[], kept=None):
            global COUNT
            COUNT += 1  #! module-state
            SEEN.add(word)  #! module-state
            seen.append(word)  #! module-state
            kept = kept or []
            kept.append(word)
            basket.items.extend(kept)  #! module-state
            settings.debug = True  #! module-state
            Row().keep()
            also = SEEN
            also.add(1)  #! module-state
            return next(NUMBERS)  #! module-state
        @shared_task(bind=True)
        def two(self, word):
            self.cache = word  #! module-state
            self.request.extra = word
            SEEN = set()
            SEEN.add(word)
        """,
    "things that the module holds": """
        import os, random, requests, time, uuid, boto3, numpy
        from aos_workflow import step
        CHANCE = random.Random(7)
        LOTS = random.SystemRandom()
        RNG = numpy.random.default_rng(7)
        SEED = int.from_bytes(os.urandom(4))
        STARTED = time.time()
        S3 = boto3.client("s3")
        SESSION = requests.Session()
        @step
        def one(ctx, url):
            CHANCE.random()  #! unseeded-random
            LOTS.random()  #! os-entropy
            RNG.normal()  #! unseeded-random
            random.Random(SEED)  #! os-entropy
            S3.get_object(url)  #! external-call
            SESSION.get(url)  #! external-call
            return STARTED  #! wall-clock
        """,
    "an object that the module holds": """
        from aos_workflow import step
        class Prices:
            def __init__(self): self.known = {}
            def of(self, item):
                self.last = item  #! module-state
                if item not in self.known:
                    self.known[item] = len(item)  #! module-state
                return self.known[item]
        class Basket:
            def __init__(self): self.items = []
            def add(self, item):
                self.items.append(item)
                self.last = item
        PRICES = Prices()
        @step
        def one(item):
            basket = Basket()
            basket.add(item)
            return PRICES.of(item)
        """,
    "what is handed in is what it is annotated with": """
        import random
        from pathlib import Path
        import requests
        from aos_workflow import step
        @step
        def one(ctx, path: Path, words: set[str], chance: random.Random, http: "requests.Session | None"):
            path.read_text()  #! filesystem
            list(words)  #! set-order
            http.get("/")  #! external-call
            chance.random()
            return list(named(words))  #! set-order
        def named(words) -> frozenset[str]: return frozenset(words)
        """,
    "names follow their assignments": """
        import time
        from pathlib import Path
        from aos_workflow import step
        @step
        def one(ctx, words, given):
            clock = time.time
            clock()  #! wall-clock
            if given:
                kept = set(words)
            else:
                kept = []
            for word in kept:  #! set-order
                print(word)
            kept = sorted(kept)
            for word in kept:
                print(word)
            folder = Path(given)
            with (folder / "a").open() as file:  #! filesystem
                return file.read()
        """,
    "the texts of objects": """
        from dataclasses import dataclass
        from aos_workflow import step
        class Plain: pass
        class Named:
            def __repr__(self): return "Named()"
        @dataclass
        class Row:
            a: int
        @step
        def one():
            return f"{Plain()} {Named()} {Row(1)}", str(Plain())  #! object-identity object-identity
        """,
    "fields that are made by a factory": """
        import uuid
        from dataclasses import dataclass, field
        from datetime import datetime
        from aos_workflow import step
        @dataclass
        class Row:
            id: str = field(default_factory=lambda: str(uuid.uuid4()))  #! random-uuid
            at: datetime = field(default_factory=datetime.now)  #! wall-clock
            cells: list = field(default_factory=list)
        @dataclass
        class Unused:
            id: str = field(default_factory=uuid.uuid4)
        @step
        def one(): return Row()
        """,
    "defaults, decorators and inner functions": """
        import time
        from aos_workflow import step
        @step
        def one(ctx, at=time.time()):  #! wall-clock
            def inner():
                return time.time()  #! wall-clock
            async def other():
                async for x in inner():
                    yield time.time()  #! wall-clock
            return (lambda: time.time())()  #! wall-clock
        """,
    "all kinds of statements": """
        import time
        from aos_workflow import step
        @step
        def one(words):
            try:
                time.time()  #! wall-clock
            except ValueError as error:
                raise RuntimeError(time.time()) from error  #! wall-clock
            else:
                time.time()  #! wall-clock
            finally:
                time.time()  #! wall-clock
            match words:
                case [first, *rest] if time.time():  #! wall-clock
                    time.time()  #! wall-clock
                case {"a": x, **more}:
                    assert time.time(), time.time()  #! wall-clock wall-clock
            while time.time():  #! wall-clock
                words[time.time()] += time.time()  #! wall-clock wall-clock
            else:
                del words[time.time()]  #! wall-clock
            with words as a, words:
                a, *b = {1, 2}  #! set-order
            x: float = time.time()  #! wall-clock
            yield from {1, 2}  #! set-order
            return await_(words[time.time():])  #! wall-clock
        """,
    "a class of Celery's is a step": """
        import time
        from celery import Task
        class Score(Task):
            def run(self, x):
                self.last = x  #! module-state
                return time.time()  #! wall-clock
        class Other:
            def run(self, x): return time.time()
        """,
    "it may have a __hash__": """
        from aos_workflow import step
        class Key:
            def __hash__(self): return hash(self.name)
            def __repr__(self): return f"<Key {id(self)}>"
        @step
        def one(): return {Key(): 1}
        """,
}


@pytest.mark.parametrize("title", MODULES)
def test_a_module_has_what_is_marked(title: str) -> None:
    """Exactly the marked lines of a module are found."""
    assert_as_marked(textwrap.dedent(MODULES[title]))


def test_everything_is_every_function() -> None:
    """With ``everything`` functions no step leads to are checked too, and those belong to no step."""
    source = """
import time, requests
from aos_workflow import step
@step(effect=True)
def one(): return requests.get("/")
def two(): return time.time()  #! wall-clock
class Three:
    def four(self): return time.time()  #! wall-clock
"""
    assert found(source) == []
    assert_as_marked(source, everything=True)
    assert {one.step for one in found(source, everything=True)} == {None}


def test_a_finding_names_the_step_that_leads_to_it() -> None:
    """Code that a step calls is found under the step's name, at its own place."""
    source = (
        "import time\nfrom aos_workflow import step\n@step\ndef a(): return b()\ndef b(): return 'é', time.time()\n"
    )
    (finding,) = found(source)
    assert (finding.step, finding.line, finding.column) == ("a", 5, 22)
    assert finding.as_json() == {
        "file": "steps.py", "line": 5, "column": 22, "rule": "wall-clock", "cause": "wall_clock", "step": "a",
        "message": "time.time() reads the clock of whoever performs the step",
        "fix": "use ctx.now, the run's logical time",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("time.time()  # aos: allow", []),
        ("time.time()  # aos: allow[wall-clock]", []),
        ("time.time()  # noqa  # aos:allow[wall-clock]: only shown", []),
        ("(time.time(), uuid.uuid4())  # aos: allow[wall-clock, random-uuid]", []),
        ("(time.time(), uuid.uuid4())  # aos: allow[wall-clock]", ["random-uuid"]),
        ("time.time(\n    )  # aos: allow", []),
        ("time.time()  # aos: allow[random-uuid]", ["wall-clock", "unused-allow"]),
        ("time.time()  # aos: allow[wall-clock, random-uuid]", ["unused-allow"]),
        ("time.time()  # aos: allow[clock]", ["wall-clock", "unused-allow"]),
        ("1  # aos: allow", ["unused-allow"]),
        ("'# aos: allow'", []),
        ("('# aos: allow', time.time())", ["wall-clock"]),
    ],
)
def test_an_allowance_accepts_what_it_names_and_nothing_else(line: str, left: list[str]) -> None:
    """A comment accepts findings of its line; one that accepts nothing, or names no rule, is found itself."""
    assert [one.rule for one in found(in_step(line))] == left


def test_an_unknown_rule_is_answered_with_the_known_ones() -> None:
    """Who misspells a rule in an allowance is told which there are."""
    (unused,) = found(in_step("1  # aos: allow[clock]"))
    assert "names no rule" in unused.message
    assert "wall-clock" in unused.fix


def test_the_rules_are_worded_for_people_and_programs() -> None:
    """Every rule has a code, a cause of the agreed words and a fix; unused-allow alone has no cause."""
    causes = {rule.cause for rule in RULES.values()} - {None}
    assert causes == {
        "unseeded_random", "wall_clock", "uuid", "os_entropy", "set_order", "object_identity", "environment",
        "filesystem", "process_state", "thread_race", "external_call",
    }  # fmt: skip
    assert set(SOURCES) == set(RULES) - {"unused-allow"}
    assert [code for code, rule in RULES.items() if not (rule.says and rule.fix and rule.code == code)] == []


@pytest.mark.parametrize("source", ["", "\n", "# aos\n", "x = 1\n", "import a.b.c, a.b as d\nfrom . import *\n"])
def test_a_file_without_functions_has_no_findings(source: str) -> None:
    """Nothing to find in nothing."""
    assert found(source, everything=True) == []


def test_a_file_that_is_no_python_is_refused() -> None:
    """The text is not guessed at."""
    with pytest.raises(SyntaxError):
        found("def f(:\n")


def test_lines_are_counted_as_python_counts_them() -> None:
    """Form feeds and Unicode's ends of lines inside of a text do not shift the place."""
    source = (
        "import time\nfrom aos_workflow import step\n@step\ndef a():\n    x = '\x85\u2028'\n\x0c\n    time.time()\n"
    )
    assert [(one.line, one.column) for one in found(source)] == [(7, 5)]


def test_it_comes_to_an_end() -> None:
    """Functions and classes that lead to each other, or inherit from themselves, are looked through once."""
    source = """
import time
from aos_workflow import step
class A(B):
    def f(self): return self.g()
class B(A):
    def g(self): return self.f(), A(), time.time()  #! wall-clock
@step
def one(): return two(), A().h()
def two(): return one_more(), B().f()
def one_more(): return two()
"""
    assert_as_marked(source)
