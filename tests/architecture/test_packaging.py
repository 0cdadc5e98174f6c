"""What leaves the house: the wheel built from this checkout, and the pins it is tested with."""

import configparser
import email
import email.message
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
TO_BUILD = ("setup.cfg", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md", "CHANGELOG.md")
PYTHONS = ("3.11.0", "3.11.9", "3.12.9", "3.13.9", "3.14.1")
PLATFORMS = (("linux", "posix", "Linux"), ("darwin", "posix", "Darwin"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel made from the source archive of a copy: a build leaves files beside the code."""
    checkout = tmp_path_factory.mktemp("checkout")
    for name in TO_BUILD:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, checkout)
    for folder in ("aos_workflow", "workers", "beat", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, checkout / folder, ignore=ignored)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "built", "."]
    built = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return next((checkout / "built").glob("*.whl"))


def files_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def read_from(wheel: Path, name: str) -> str:
    """Read a file of the wheel's .dist-info folder."""
    with zipfile.ZipFile(wheel) as archive:
        path = next(path for path in archive.namelist() if path.endswith(f".dist-info/{name}"))
        return archive.read(path).decode("utf-8")


def metadata_of(wheel: Path) -> email.message.Message:
    return email.message_from_string(read_from(wheel, "METADATA"))


def requirements() -> list[Requirement]:
    """Everything setup.cfg asks for, extras included."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    texts = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    return [Requirement(line) for text in texts for line in text.splitlines() if line.strip()]


def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.lstrip().startswith("#")]


def test_the_wheel_carries_the_package_whole(wheel: Path) -> None:
    """Every file under aos_workflow is in the wheel: modules, migrations, SQL, Lua, templates, py.typed."""
    sources = (path for path in (ROOT / "aos_workflow").rglob("*") if path.is_file())
    wanted = {str(path.relative_to(ROOT)) for path in sources if "__pycache__" not in path.parts}
    assert "aos_workflow/py.typed" in wanted
    assert wanted - files_in(wheel) == set()


def test_the_wheel_carries_nothing_else(wheel: Path) -> None:
    """Deployment code and tests stay out: the wheel has one top-level name."""
    tops = {name.partition("/")[0] for name in files_in(wheel)}
    assert tops == {"aos_workflow", "aos_workflow-0.1.0.dist-info"}


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    """Name, version, licence and Python are declared, and the licence text is inside."""
    metadata = metadata_of(wheel)
    declared = {key: metadata[key] for key in ("Name", "Version", "License-Expression", "Requires-Python")}
    assert declared == {
        "Name": "aos_workflow",
        "Version": "0.1.0",
        "License-Expression": "Apache-2.0",
        "Requires-Python": ">=3.11",
    }
    assert any(name.endswith("/LICENSE") for name in files_in(wheel))
    assert set(metadata.get_all("Provides-Extra") or ()) == {"all", "dev", "embedded", "test"}


def test_the_wheel_opens_three_doors(wheel: Path) -> None:
    """The wheel declares the `aos` command, Celery's `aos` sub-command and the pytest plugin."""
    points = configparser.ConfigParser()
    points.read_string(read_from(wheel, "entry_points.txt"))
    assert {group: dict(points[group]) for group in points.sections()} == {
        "console_scripts": {"aos": "aos_workflow.cli:main"},
        "celery.commands": {"aos": "aos_workflow.cli:aos"},
        "pytest11": {"aos_workflow": "aos_workflow.testing"},
    }


def test_the_doors_lead_somewhere(wheel: Path, tmp_path: Path) -> None:
    """Unpacked far from the checkout, the package imports and every entry point that is built resolves."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    package = tmp_path / "aos_workflow"
    doors = ["import aos_workflow", f"assert {str(package)!r} in aos_workflow.__path__"]
    if (package / "cli").exists() or (package / "cli.py").exists():
        doors.append("from aos_workflow.cli import aos, main; assert callable(main); assert aos.name == 'aos'")
    if (package / "testing").exists():
        doors.append("import aos_workflow.testing")
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    entered = subprocess.run(
        [sys.executable, "-c", "\n".join(doors)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert entered.returncode == 0, entered.stderr


def test_every_requirement_has_a_floor() -> None:
    """Each requirement names the oldest version that is known to be enough."""
    outside = [requirement for requirement in requirements() if requirement.name != "aos_workflow"]
    floorless = [str(r) for r in outside if not any(s.operator in (">=", "==", "~=") for s in r.specifier)]
    assert floorless == []


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda platform: str(platform[0]))
def test_each_requirement_is_pinned_once_within_its_range(python: str, platform: tuple[str, str, str]) -> None:
    """On each supported Python and platform one pin applies per requirement, and it satisfies the range."""
    environment = {
        **default_environment(),
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        **dict(zip(("sys_platform", "os_name", "platform_system"), platform, strict=True)),
    }

    def applies(marker: Marker | None) -> bool:
        return marker is None or marker.evaluate(environment)

    applicable: dict[str, list[Requirement]] = {}
    for pin in pins():
        if applies(pin.marker):
            applicable.setdefault(canonicalize_name(pin.name), []).append(pin)
    for requirement in requirements():
        if requirement.name == "aos_workflow" or not applies(requirement.marker):
            continue
        found = applicable.get(canonicalize_name(requirement.name), [])
        assert len(found) == 1, f"{requirement} has {len(found)} pins for Python {python} on {platform[0]}"
        (version,) = (s.version for s in found[0].specifier if s.operator == "==")
        assert version in requirement.specifier, f"{found[0]} is outside of {requirement}: run `make lock`"


def test_pins_name_no_host() -> None:
    """constraints.txt holds names and versions only, so that it works with any index."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert not re.search(r"https?:|file:|--|@ |/opt/", text)
