"""The trips example: its data set, the rules of its cleaning, its sums and its report."""

import hashlib
import json
import os
import random
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos_workflow import StepContext
from aos_workflow.canvas import compile_canvas
from examples.trips import app, tasks
from examples.trips.cleaning import (
    REASONS,
    REPAIRS,
    Rules,
    Trip,
    judge,
    judge_lines,
    judge_part,
    parse_thousandths,
    parse_time,
    station_code,
)
from examples.trips.generate import generate
from examples.trips.report import BAR_WIDTH, bars, percent, render
from examples.trips.totals import median_bin, tally

ROOT = Path(__file__).parents[2]
ROWS, PARTS = 2_400, 4
MANIFEST_SHA256 = "c66205fea24f2676f56ac69d4e70c1b2c72e7f50f3184388679826dba4a56457"

# -- the data set ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trips")
    generate(folder, rows=ROWS, parts=PARTS, seed=7)
    return folder


def truth_of(folder: Path) -> dict[str, Any]:
    truth: dict[str, Any] = json.loads((folder / "truth.json").read_text())
    return truth


def test_the_data_set_is_the_same_bytes_as_ever(data: Path) -> None:
    """The manifest, which holds every part's SHA-256, has the digest it had when it was first written."""
    assert hashlib.sha256((data / "manifest.json").read_bytes()).hexdigest() == MANIFEST_SHA256


@pytest.mark.parametrize("hash_seed", ["0", "4242"])
def test_the_data_set_does_not_depend_on_the_hash_seed(hash_seed: str, tmp_path: Path) -> None:
    """A fresh interpreter with any hash seed writes the same files through the command line."""
    command = [sys.executable, "-m", "examples.trips.generate", f"--rows={ROWS}", f"--parts={PARTS}"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    subprocess.run([*command, f"--out={tmp_path}"], cwd=ROOT, env=environment, check=True, capture_output=True)
    assert hashlib.sha256((tmp_path / "manifest.json").read_bytes()).hexdigest() == MANIFEST_SHA256


def test_the_manifest_describes_the_parts(data: Path) -> None:
    """Rows, bytes and digests of the manifest are those of the files, and the rows are as many as asked."""
    manifest = json.loads((data / "manifest.json").read_text())
    for part in manifest["parts"]:
        content = (data / part["file"]).read_bytes()
        assert content.count(b"\n") == part["rows"] + 1
        assert (len(content), hashlib.sha256(content).hexdigest()) == (part["bytes"], part["sha256"])
    assert sum(part["rows"] for part in manifest["parts"]) == ROWS
    days = [(part["first_day"], part["last_day"]) for part in manifest["parts"]]
    assert (days[0][0], days[-1][1]) == ("2025-01-01", "2025-12-31")


def test_writing_the_data_set_again_changes_nothing(tmp_path: Path) -> None:
    """The same arguments find the files there and leave them alone."""
    first = generate(tmp_path, rows=200, parts=2)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert generate(tmp_path, rows=200, parts=2) == first
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("damage", ["other arguments", "shortened part", "broken manifest", "no truth"])
def test_a_folder_that_does_not_fit_is_written_anew(damage: str, tmp_path: Path) -> None:
    """Whatever was there before, the folder ends with exactly what the arguments ask for."""
    wanted = generate(tmp_path / "fresh", rows=200, parts=2, seed=1)
    folder = tmp_path / "used"
    generate(folder, rows=200, parts=2, seed=2 if damage == "other arguments" else 1)
    if damage == "shortened part":
        (folder / "part-02.csv").write_bytes((folder / "part-02.csv").read_bytes()[:-9])
    elif damage == "broken manifest":
        (folder / "manifest.json").write_text("{")
    elif damage == "no truth":
        (folder / "truth.json").unlink()
    assert generate(folder, rows=200, parts=2, seed=1) == wanted
    for path in (tmp_path / "fresh").iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("rows", "parts"), [(1_000, 0), (1_000_000, 100), (199, 4)])
def test_a_data_set_that_makes_no_sense_is_refused(rows: int, parts: int, tmp_path: Path) -> None:
    """Too many or no parts, or too few rows, are refused before anything is written."""
    with pytest.raises(ValueError, match=r"parts=|rows="):
        generate(tmp_path / "data", rows=rows, parts=parts)
    assert not (tmp_path / "data").exists()


# -- the pipeline ------------------------------------------------------------------------------------------


def learned_of(folder: Path, number: int, parts: int) -> dict[str, Any]:
    manifest = tasks.read_manifest(str(folder), parts)
    learned: dict[str, Any] = tasks.learn(tasks.check(manifest, number))
    return learned


def added_up(folder: Path, parts: int) -> list[dict[str, Any]]:
    """What ``add_up`` returns for each part; the chance of ``clean`` seeded by the part's number."""
    results = []
    for number in range(1, parts + 1):
        learned = learned_of(folder, number, parts)
        judged = judge_part(Path(learned["path"]), tasks.rules_of(learned), random.Random(number))
        results.append(tasks.add_up({**learned, **judged}))
    return results


@pytest.fixture(scope="session")
def totals(data: Path) -> dict[str, Any]:
    whole: dict[str, Any] = tasks.combine(added_up(data, PARTS))
    return whole


@pytest.mark.parametrize(("rows", "parts", "seed"), [(2_000, 1, 7), (3_000, 5, 8), (4_500, 3, 9)])
def test_the_pipeline_finds_exactly_the_dirt_that_was_put_in(rows: int, parts: int, seed: int, tmp_path: Path) -> None:
    """Kept, repaired and rejected lines, and the sums over clean trips, equal the generator's own account."""
    generate(tmp_path, rows=rows, parts=parts, seed=seed)
    truth = truth_of(tmp_path)
    whole = tasks.combine(added_up(tmp_path, parts))
    assert (whole["trips"], whole["distance_m"], whole["duration_s"]) == (
        truth["kept"],
        truth["distance_m"],
        truth["duration_s"],
    )
    assert (whole["rejected"], whole["repaired"]) == (truth["rejected"], truth["repaired"])
    assert whole["kilometre_stations"] == truth["kilometre_stations"]


def test_every_line_is_kept_or_rejected_once(data: Path) -> None:
    """In each part the lines are the kept ones plus the rejected ones, whose reasons are all explained."""
    for part in added_up(data, PARTS):
        (days,) = part["parts"]
        assert days["rows"] == days["kept"] + sum(part["rejected"].values())
        assert part["trips"] == days["kept"]
        assert part["rejected"].keys() <= REASONS.keys()
        assert part["repaired"].keys() <= REPAIRS.keys()


def test_the_totals_agree_with_each_other(totals: dict[str, Any]) -> None:
    """Every break-down of the trips has as many trips as the whole."""
    for name in ("week", "distances", "durations"):
        assert sum(totals[name]) == totals["trips"]
    for name in ("starts", "ends", "riders"):
        assert sum(totals[name].values()) == totals["trips"]


def test_the_order_of_the_parts_does_not_change_the_sums(data: Path, totals: dict[str, Any]) -> None:
    """Joining the parts the other way round gives the same totals, the listing of parts and sample apart."""
    other = tasks.combine(added_up(data, PARTS)[::-1])
    in_order = {"parts", "sample"}
    assert {k: v for k, v in other.items() if k not in in_order} == {
        k: v for k, v in totals.items() if k not in in_order
    }
    assert other["parts"] == totals["parts"][::-1]


def test_one_part_is_a_whole(data: Path) -> None:
    """A join of a single part has that part's numbers."""
    part = added_up(data, PARTS)[0]
    whole = tasks.combine([part])
    assert {**whole, "sample": None} == {**part, "sample": None}


def test_outputs_are_small_json(data: Path, totals: dict[str, Any]) -> None:
    """Whatever a step returns survives JSON unchanged and stays below 16 KiB."""
    manifest = tasks.read_manifest(str(data), PARTS)
    for value in (manifest, learned_of(data, 1, PARTS), *added_up(data, PARTS), totals):
        text = json.dumps(value, sort_keys=True, allow_nan=False)
        assert json.loads(text) == value
        assert len(text) < 16_384


def test_the_sample_belongs_to_the_seed(data: Path) -> None:
    """The same chance picks the same rejected lines, another picks others, and all are lines of the file."""
    learned = learned_of(data, 2, PARTS)
    path, rules = Path(learned["path"]), tasks.rules_of(learned)
    first, again, other = (judge_part(path, rules, random.Random(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first["sample"] != other["sample"]
    lines = path.read_text().splitlines()
    for line in first["sample"]:
        assert lines[line["line"] - 1] == line["text"]


def context(seed: int) -> StepContext:
    return StepContext(run_id="r", workflow="trips", address="4.clean", attempt=1, seed=seed, logical_time=0.0)


def test_clean_draws_its_sample_from_the_runs_seed(data: Path) -> None:
    """Two runs of one seed clean a part to the same output, another seed changes the sample alone."""
    learned = learned_of(data, 2, PARTS)
    first, again, other = (tasks.clean(context(seed), learned) for seed in (7, 7, 8))
    assert first == again
    assert first["sample"] != other["sample"]
    assert {**first, "sample": None} == {**other, "sample": None}


@pytest.mark.parametrize("parts", [1, 24])
def test_the_workflow_has_a_stretch_of_four_steps_per_part(parts: int) -> None:
    """The plan is the manifest, a stretch per part, the join and the report."""
    canvas = app.trips.canvas({"data_dir": "/data", "parts": parts, "report_path": "/report.md"})
    plan = compile_canvas(canvas, app=app.app)
    names = [step.address.partition(".")[2] for step in plan.steps]
    stretch = ["check", "learn", "clean", "add_up"]
    assert names == ["read_manifest", *stretch * parts, "combine", "write_report"]


def test_a_changed_part_is_refused(data: Path, tmp_path: Path) -> None:
    """A part whose bytes are not the announced ones ends the run with its name in the error."""
    manifest = tasks.read_manifest(str(data), PARTS)
    content = (data / "part-01.csv").read_bytes()
    (tmp_path / "part-01.csv").write_bytes(content.replace(b"member", b"Member", 1))
    with pytest.raises(ValueError, match=r"part-01\.csv is not the announced file"):
        tasks.check({**manifest, "data_dir": str(tmp_path)}, 1)


def test_a_file_that_changes_between_two_steps_is_refused(data: Path) -> None:
    """``add_up`` refuses to add up other lines than ``clean`` kept."""
    learned = learned_of(data, 1, PARTS)
    judged = judge_part(Path(learned["path"]), tasks.rules_of(learned), random.Random(1))
    with pytest.raises(ValueError, match="changed while it was read"):
        tasks.add_up({**learned, **judged, "kept": judged["kept"] + 1})


def test_the_wrong_number_of_parts_is_refused(data: Path) -> None:
    """The error names the number that would fit."""
    with pytest.raises(ValueError, match=f"start the run with parts={PARTS}"):
        tasks.read_manifest(str(data), PARTS + 1)


def test_a_file_without_the_header_is_refused(tmp_path: Path) -> None:
    """Columns in another order are no trips."""
    path = tmp_path / "part-01.csv"
    path.write_text("bike,trip_id\n")
    with pytest.raises(ValueError, match="does not begin with the header"):
        list(judge_lines(path, RULES))


RULES = Rules(
    first_day=date(2025, 6, 1),
    last_day=date(2025, 6, 30),
    stations=60,
    median_speed_mm_s=4_000,
    kilometre_stations=frozenset({"S036"}),
)
GOOD = ["T1", "B0001", "S001", "S002", "2025-06-02T08:15:00", "600", "2500", "member"]


def changed(**fields: str) -> list[str]:
    names = ("trip_id", "bike", "start", "end", "time", "duration", "distance", "rider")
    return [fields.get(name, value) for name, value in zip(names, GOOD, strict=True)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (GOOD[:5], "torn_line"),
        ([*GOOD, "more"], "torn_line"),
        ([], "torn_line"),
        (changed(end=""), "missing_field"),
        (changed(distance=""), "missing_field"),
        (changed(trip_id="seen"), "duplicate"),
        (changed(end="S061"), "unknown_station"),
        (changed(start="S000"), "unknown_station"),
        (changed(start="depot"), "unknown_station"),
        (changed(time="yesterday"), "unreadable"),
        (changed(time="2025-06-31T08:15:00"), "unreadable"),
        (changed(time="06/31/2025 08:15:00"), "unreadable"),
        (changed(time="2025-06-02T24:15:00"), "unreadable"),
        (changed(duration="ten"), "unreadable"),
        (changed(distance="2,5"), "unreadable"),
        (changed(time="2025-05-31T23:59:59"), "outside_period"),
        (changed(time="01/07/2025 00:00:00"), "outside_period"),
        (changed(duration="59"), "false_start"),
        (changed(duration="-600"), "false_start"),
        (changed(duration="86401"), "never_docked"),
        (changed(distance="-1"), "impossible_distance"),
        (changed(distance="100001", duration="86400"), "impossible_distance"),
        (changed(start="S036", distance="100.001", duration="86400"), "impossible_distance"),
        (changed(distance="9601"), "too_fast"),
    ],
)
def test_a_bad_line_is_rejected_for_its_reason(row: list[str], reason: str) -> None:
    """Each kind of dirt has its reason, and a rejected line is neither repaired nor remembered."""
    seen, repaired = {"seen"}, list[str]()
    assert judge(row, RULES, seen, repaired) == reason
    assert (seen, repaired) == ({"seen"}, [])


@pytest.mark.parametrize(
    ("row", "trip", "repairs"),
    [
        (GOOD, Trip("S001", "S002", 0, 8, 600, 2_500, "member"), []),
        (
            changed(time="01/06/2025 23:00:00"),
            Trip("S001", "S002", 6, 23, 600, 2_500, "member"),
            ["day_first_date"],
        ),
        (
            changed(start="s36", distance="2.5", rider=""),
            Trip("S036", "S002", 0, 8, 600, 2_500, "unknown"),
            ["kilometres", "station_spelling", "rider_missing"],
        ),
        (
            changed(end=" S2 ", duration="60", distance="0"),
            Trip("S001", "S002", 0, 8, 60, 0, "member"),
            ["station_spelling"],
        ),
        (changed(distance="9600"), Trip("S001", "S002", 0, 8, 600, 9_600, "member"), []),
        (changed(rider="pilot"), Trip("S001", "S002", 0, 8, 600, 2_500, "unknown"), ["rider_missing"]),
    ],
)
def test_a_good_line_is_repaired_and_remembered(row: list[str], trip: Trip, repairs: list[str]) -> None:
    """What can be mended is mended and named; the trip's id then counts as seen."""
    seen, repaired = set[str](), list[str]()
    assert judge(row, RULES, seen, repaired) == trip
    assert repaired == repairs
    assert judge(row, RULES, seen, []) == "duplicate"


@given(st.lists(st.sampled_from(GOOD) | st.text("S0129/-:T. ٣x", max_size=12), max_size=9))
def test_any_line_has_an_outcome(row: list[str]) -> None:
    """Whatever a line holds, it becomes a trip or is rejected for an explained reason."""
    outcome = judge(row, RULES, set(), [])
    assert isinstance(outcome, Trip) or outcome in REASONS


@given(st.integers(min_value=-(10**9), max_value=10**9))
def test_thousandths_are_exact(thousandths: int) -> None:
    """Every number of thousandths written as a decimal is read back as itself."""
    text = f"{'-' * (thousandths < 0)}{abs(thousandths) // 1000}.{abs(thousandths) % 1000:03d}"
    assert parse_thousandths(text) == thousandths


def test_both_ways_to_write_a_time_mean_the_same() -> None:
    """ISO and day-first times of one moment are equal."""
    assert parse_time("2025-12-31T08:15:22") == parse_time("31/12/2025 08:15:22") == (date(2025, 12, 31), 8)


@pytest.mark.parametrize("text", ["S007", "s007", "S7", " s7 ", "7"])
def test_a_station_has_one_code(text: str) -> None:
    """All spellings of a station lead to its code."""
    assert station_code(text) == "S007"


def test_a_tally_puts_the_longest_into_the_last_bin() -> None:
    """Trips beyond the last bin are counted in it; weekday and hour pick one of the 168 hours."""
    counted = tally([Trip("S001", "S002", 6, 23, 86_400, 100_000, "member")])
    assert counted["distances"][-1] == counted["durations"][-1] == counted["week"][-1] == 1


# -- the report --------------------------------------------------------------------------------------------


def test_the_report_states_the_totals(totals: dict[str, Any]) -> None:
    """Headline, cleaning table and stations are the totals' numbers, and every line is accounted for."""
    text = render(totals)
    lost = sum(totals["rejected"].values())
    assert f"**{totals['trips']:,} trips** out of {ROWS:,} uploaded lines" in text
    assert f"{ROWS:,} lines in = {totals['trips']:,} kept + {lost:,} rejected" in text
    for reason, count in totals["rejected"].items():
        assert f"| {reason} | {count:,} | {REASONS[reason]} |" in text
    for repair, count in totals["repaired"].items():
        assert f"| {repair} | {count:,} | {REPAIRS[repair]} |" in text
    assert f"want new firmware: {', '.join(totals['kilometre_stations'])}." in text
    for line in totals["sample"]:
        assert line["text"] in text


def test_the_report_survives_an_empty_year() -> None:
    """Totals without a single trip still make a report."""
    empty = {**tally([]), "repaired": {}, "rejected": {}, "kilometre_stations": [], "sample": []}
    part = {"first_day": "2025-01-01", "rows": 0, "kept": 0, "median_speed_mm_s": 0}
    assert "**0 trips** out of 0 uploaded lines" in render({**empty, "parts": [part]})


def test_the_report_file_is_complete_and_written_twice_the_same(totals: dict[str, Any], tmp_path: Path) -> None:
    """Doing the effect again leaves the same file, nothing beside it, and gives the same answer."""
    target = tmp_path / "reports" / "trips.md"
    first = tasks.write_report(totals, str(target))
    content = target.read_bytes()
    assert tasks.write_report(totals, str(target)) == first
    assert target.read_bytes() == content == render(totals).encode()
    assert first["sha256"] == hashlib.sha256(content).hexdigest()
    assert first["rows"] == first["kept"] + first["rejected"] == ROWS
    assert [path.name for path in target.parent.iterdir()] == ["trips.md"]


def test_bars_are_as_long_as_their_values() -> None:
    """The largest value fills the width, others are in proportion, one above zero is never invisible."""
    lengths = [line.count("█") for line in bars([("a", 1_000), ("b", 500), ("c", 1), ("d", 0)]).splitlines()]
    assert lengths == [BAR_WIDTH, BAR_WIDTH // 2, 1, 0]


def test_percent_and_median_bin() -> None:
    """Percentages are rounded down to a tenth; the median's bin is the first that reaches half."""
    assert (percent(1, 3), percent(0, 0), percent(5, 5)) == ("33.3 %", "0.0 %", "100.0 %")
    assert (median_bin([1, 0, 1]), median_bin([0, 0, 5]), median_bin([]), median_bin([0, 0])) == (0, 2, 0, 0)
