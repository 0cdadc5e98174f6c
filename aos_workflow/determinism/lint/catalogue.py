"""The names that bring chance, time and the world into a step: dotted name -> rule.

A method is written with its class (``pathlib.Path.read_text``); what an instance is, ``values`` finds out.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass

Condition = Callable[[ast.Call], bool]


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A name with a rule against it. ``when`` says which calls are meant; without it the bare name counts too."""

    rule: str
    when: Condition | None = None
    fix: str | None = None


#: Rule -> module or class -> names that are meant in whatever way they are used, also handed on (``key=id``).
_ALWAYS: dict[str, dict[str, str]] = {
    "unseeded-random": {
        "random": """random randint randrange uniform choice choices shuffle sample getrandbits randbytes triangular
            seed getstate setstate gauss normalvariate lognormvariate betavariate expovariate gammavariate
            paretovariate vonmisesvariate weibullvariate binomialvariate""",
        "numpy.random": """random rand randn randint random_integers random_sample ranf sample choice bytes shuffle
            permutation permuted seed get_state set_state beta binomial chisquare dirichlet exponential f gamma
            geometric gumbel hypergeometric laplace logistic lognormal logseries multinomial multivariate_normal
            negative_binomial noncentral_chisquare noncentral_f normal pareto poisson power rayleigh standard_cauchy
            standard_exponential standard_gamma standard_normal standard_t triangular uniform vonmises wald weibull
            zipf""",
    },
    "wall-clock": {
        "time": """time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time process_time_ns
            thread_time thread_time_ns clock_gettime clock_gettime_ns""",
        "datetime.datetime": "now utcnow today",
        "datetime.date": "today",
        "pandas.Timestamp": "now utcnow today",
        "django.utils.timezone": "now localdate",
        "arrow": "now utcnow",
        "pendulum": "now today tomorrow yesterday",
    },
    "random-uuid": {"uuid": "uuid1 uuid4 uuid6 uuid7"},
    "os-entropy": {
        "os": "urandom getrandom",
        "secrets": "token_bytes token_hex token_urlsafe choice randbelow randbits",
        "ssl": "RAND_bytes",
    },
    "object-identity": {"builtins": "id", "builtins.object": "__repr__ __hash__"},
    "environment": {
        "os": """environ environb getenv getenvb putenv unsetenv getcwd getcwdb uname getlogin cpu_count
            process_cpu_count sched_getaffinity getloadavg get_terminal_size getuid geteuid getgid""",
        "os.path": "expanduser expandvars",
        "pathlib.Path": "cwd home expanduser",
        "socket": "gethostname getfqdn if_nameindex",
        "platform": """platform node system machine processor release version uname architecture python_version
            python_version_tuple python_implementation python_build python_compiler libc_ver mac_ver win32_ver
            freedesktop_os_release""",
        "locale": """getlocale getdefaultlocale getpreferredencoding getencoding localeconv setlocale format_string
            currency str atof atoi strxfrm strcoll nl_langinfo""",
        "getpass": "getuser getpass",
        "time": "tzname timezone altzone daylight",
        "sys": "argv",
        "uuid": "getnode",
        "multiprocessing": "cpu_count",
        "shutil": "which get_terminal_size disk_usage",
        "tempfile": "gettempdir gettempdirb",
        "psutil": "cpu_count cpu_percent virtual_memory disk_usage boot_time users",
    },
    "filesystem": {
        "builtins": "open",
        "io": "open open_code",
        "codecs": "open",
        "os": """open stat lstat access remove unlink rename renames replace mkdir makedirs rmdir removedirs link
            symlink readlink chmod chown truncate utime mkfifo statvfs""",
        "os.path": "exists lexists isfile isdir islink ismount getsize getmtime getatime getctime samefile",
        "pathlib.Path": """open read_text read_bytes write_text write_bytes exists is_file is_dir is_symlink is_mount
            stat lstat touch mkdir rmdir unlink rename replace chmod symlink_to hardlink_to readlink owner group
            samefile copy move""",
        "shutil": "copy copy2 copyfile copytree copymode copystat move rmtree make_archive unpack_archive",
        "tempfile": "mkstemp mkdtemp mktemp",
        "fileinput": "input",
        "linecache": "getline getlines",
    },
    "directory-order": {
        "os": "listdir scandir walk fwalk",
        "glob": "glob iglob",
        "pathlib.Path": "iterdir glob rglob walk",
    },
    "process-identity": {
        "os": "getpid getppid getpgid getpgrp getsid times",
        "threading": "get_ident get_native_id current_thread main_thread active_count enumerate",
        "multiprocessing": "current_process parent_process active_children",
        "asyncio": "current_task all_tasks",
        "resource": "getrusage",
        "gc": "get_objects get_count get_stats",
        "tracemalloc": "get_traced_memory take_snapshot",
    },
    "thread-race": {"concurrent.futures": "as_completed wait", "asyncio": "as_completed wait"},
    "external-call": {
        "requests": "get post put patch delete head options request",
        "requests.Session": "get post put patch delete head options request send",
        "httpx": "get post put patch delete head options request stream",
        "httpx.Client": "get post put patch delete head options request send stream",
        "aiohttp": "request",
        "aiohttp.ClientSession": "get post put patch delete head options request ws_connect",
        "urllib.request": "urlopen urlretrieve",
        "urllib.request.OpenerDirector": "open",
        "urllib3": "request",
        "urllib3.PoolManager": "request urlopen",
        "socket": """create_connection create_server getaddrinfo gethostbyname gethostbyname_ex gethostbyaddr
            getnameinfo socketpair""",
        "subprocess": "run call check_call check_output getoutput getstatusoutput",
        "os": """system popen fork forkpty kill killpg execv execve execvp execvpe execl execle execlp execlpe spawnl
            spawnle spawnlp spawnlpe spawnv spawnve spawnvp spawnvpe posix_spawn posix_spawnp startfile""",
        "asyncio": "create_subprocess_exec create_subprocess_shell open_connection start_server",
        "webbrowser": "open open_new open_new_tab",
        "builtins": "input",
        "celery.Celery": "send_task",
    },
}

#: Rule -> module -> classes: making an instance is meant, naming the class (in isinstance, say) is not.
_INSTANCES: dict[str, dict[str, str]] = {
    "os-entropy": {"random": "SystemRandom", "secrets": "SystemRandom"},
    "filesystem": {
        "tempfile": "TemporaryFile NamedTemporaryFile SpooledTemporaryFile TemporaryDirectory",
        "io": "FileIO",
    },
    "thread-race": {
        "threading": "Thread Timer",
        "concurrent.futures": "ThreadPoolExecutor ProcessPoolExecutor InterpreterPoolExecutor",
        "multiprocessing": "Process Pool Queue SimpleQueue Pipe Manager",
        "multiprocessing.pool": "Pool ThreadPool",
    },
    "external-call": {"subprocess": "Popen"},
}

#: What gives a connection. Making one talks to the world, and so does every method of one that was made elsewhere,
#: by the module or by whoever hands it in.
CONNECTIONS = words(
    """
    http.client.HTTPConnection http.client.HTTPSConnection socket.socket ssl.SSLSocket smtplib.SMTP smtplib.SMTP_SSL
    smtplib.LMTP ftplib.FTP ftplib.FTP_TLS imaplib.IMAP4 imaplib.IMAP4_SSL poplib.POP3 poplib.POP3_SSL
    xmlrpc.client.ServerProxy boto3.client boto3.resource boto3.Session boto3.session.Session paramiko.SSHClient
    psycopg.connect psycopg2.connect asyncpg.connect asyncpg.create_pool pymysql.connect MySQLdb.connect
    oracledb.connect pyodbc.connect sqlite3.connect duckdb.connect snowflake.connector.connect redis.Redis
    redis.StrictRedis redis.from_url redis.Redis.from_url redis.asyncio.Redis redis.asyncio.from_url valkey.Valkey
    valkey.from_url pymongo.MongoClient motor.motor_asyncio.AsyncIOMotorClient elasticsearch.Elasticsearch
    opensearchpy.OpenSearch kafka.KafkaProducer kafka.KafkaConsumer confluent_kafka.Producer confluent_kafka.Consumer
    pika.BlockingConnection kombu.Connection openai.OpenAI openai.AsyncOpenAI anthropic.Anthropic
    anthropic.AsyncAnthropic grpc.insecure_channel grpc.secure_channel google.cloud.storage.Client
    google.cloud.bigquery.Client stripe.StripeClient slack_sdk.WebClient twilio.rest.Client sqlalchemy.create_engine
    sqlalchemy.ext.asyncio.create_async_engine
    """
)

#: The same thing under another name: as written -> as listed above.
_SAME = {
    "httpx.AsyncClient": "httpx.Client",
    "requests.session": "requests.Session",
    "requests.sessions.Session": "requests.Session",
    "requests.api": "requests",
    "pathlib.PosixPath": "pathlib.Path",
    "posixpath": "os.path",
    "urllib.request.build_opener": "urllib.request.OpenerDirector",
    "multiprocessing.process": "multiprocessing",
}


def source_of_call(dotted: str, call: ast.Call) -> Source | None:
    """What a call of this name brings into a step."""
    sources = _CATALOGUE.get(listed_name(dotted), ())
    return next((source for source in sources if source.when is None or source.when(call)), None)


def source_of_name(dotted: str) -> Source | None:
    """What the bare name brings into a step: ``os.environ``, or a function that is handed on."""
    return next((source for source in _CATALOGUE.get(listed_name(dotted), ()) if source.when is None), None)


def listed_name(dotted: str) -> str:
    """The name under which the catalogue lists this thing."""
    if dotted in _SAME:
        return _SAME[dotted]
    owner, _, name = dotted.rpartition(".")
    return f"{_SAME[owner]}.{name}" if owner in _SAME else dotted


def _lacks(position: int, keyword: str = "") -> Condition:
    """Is the argument at this position, or by this keyword, missing or None?"""

    def lacks(call: ast.Call) -> bool:
        if any(isinstance(given, ast.Starred) for given in call.args) or any(k.arg is None for k in call.keywords):
            return False
        given = [*call.args[position : position + 1], *(k.value for k in call.keywords if k.arg == keyword)]
        return not given or (isinstance(given[0], ast.Constant) and given[0].value is None)

    return lacks


def _any_call(call: ast.Call) -> bool:
    return True


def _is_now(call: ast.Call) -> bool:
    return any(isinstance(given, ast.Constant) and given.value in ("now", "today") for given in call.args)


def _is_on_disk(call: ast.Call) -> bool:
    """Is a file meant, and not one in memory?"""
    first = call.args[0] if call.args else None
    if isinstance(first, ast.Call):
        return not ast.unparse(first.func).endswith(("BytesIO", "StringIO"))
    return not (isinstance(first, ast.Constant) and first.value == ":memory:")


def _starts_anywhere(call: ast.Call) -> bool:
    """A relative path starts at the working directory; the one of the module itself does not."""
    return "__file__" not in ast.unparse(call)


_NUMPY_FIX = "draw from ctx.numpy_random"
_SQL_FIX = "write rows through ctx.session, or ask the database in a step with @step(effect=True)"

#: Rule, module or class, names, which calls are meant.
_CONDITIONAL: tuple[tuple[str, str, str, Condition], ...] = (
    ("unseeded-random", "random", "Random", _lacks(0, "x")),
    (
        "unseeded-random",
        "numpy.random",
        "default_rng RandomState PCG64 PCG64DXSM MT19937 Philox SFC64",
        _lacks(0, "seed"),
    ),
    ("unseeded-random", "numpy.random", "SeedSequence", _lacks(0, "entropy")),
    ("wall-clock", "time", "localtime gmtime ctime asctime", _lacks(0)),
    ("wall-clock", "time", "strftime", _lacks(1)),
    ("wall-clock", "pandas", "Timestamp to_datetime", _is_now),
    ("wall-clock", "numpy", "datetime64", _is_now),
    ("wall-clock", "django.utils.timezone", "localtime", _lacks(0, "value")),
    ("local-time-zone", "datetime.datetime", "fromtimestamp", _lacks(1, "tz")),
    ("local-time-zone", "datetime.date", "fromtimestamp", _any_call),
    ("local-time-zone", "time", "localtime ctime mktime", _any_call),
    ("environment", "pathlib.Path", "resolve absolute", _starts_anywhere),
    ("environment", "os.path", "abspath realpath", _starts_anywhere),
    ("filesystem", "gzip", "open", _is_on_disk),
    ("filesystem", "bz2", "open", _is_on_disk),
    ("filesystem", "lzma", "open", _is_on_disk),
    ("filesystem", "zipfile", "ZipFile", _is_on_disk),
    ("filesystem", "numpy", "load save savez savez_compressed loadtxt savetxt genfromtxt fromfile memmap", _is_on_disk),
    ("filesystem", "pandas", "read_csv read_table read_json read_excel read_parquet read_feather", _is_on_disk),
)


def _catalogue() -> dict[str, tuple[Source, ...]]:
    found: dict[str, tuple[Source, ...]] = {}

    def enter(rule: str, owner: str, names: str, when: Condition | None) -> None:
        fix = _NUMPY_FIX if owner == "numpy.random" else _SQL_FIX if owner.startswith("sqlalchemy") else None
        for name in names.split():
            dotted = f"{owner}.{name}"
            found[dotted] = (*found.get(dotted, ()), Source(rule=rule, when=when, fix=fix))

    for table, when in ((_ALWAYS, None), (_INSTANCES, _any_call)):
        for rule, owners in table.items():
            for owner, names in owners.items():
                enter(rule, owner, names, when)
    for row in _CONDITIONAL:
        enter(*row)
    for dotted in CONNECTIONS:
        owner, _, name = dotted.rpartition(".")
        in_memory = dotted in ("sqlite3.connect", "duckdb.connect")
        enter("external-call", owner, name, _is_on_disk if in_memory else _any_call)
    return found


_CATALOGUE = _catalogue()
