"""What the benchmark says of its figures, and the files that keep them."""

import io
import json
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

import vault
from bench import compare, figures, measuring, results
from bench.__main__ import all_of
from bench.figures import Figure, figure, middle, rates
from bench.load import Load, summary
from bench.mtls import ghz_load
from bench.rows import ROWS, named
from vault.build import BUILD


def one(name: str = "read", ratio: float = 0.5, unit: str = "reads/s", load: str = "") -> Figure:
    """A figure whose ratio is all that counts."""
    return Figure(name, unit, ratio, 1.0, ratio, None, None, load=load)


def test_a_figure_is_of_medians() -> None:
    """One round that was slow for one side changes nothing."""
    made = figure("name", "records/s", [10.0, 30.0, 30.0], [10.0, 10.0, 10.0])
    assert (made.value, made.baseline, made.ratio) == (30.0, 10.0, 3.0)


def test_a_ratio_is_taken_round_by_round() -> None:
    """A machine that gets slower for both sides changes no ratio."""
    made = figure("name", "records/s", [40.0, 20.0, 3.0], [20.0, 10.0, 1.0])
    assert (made.value, made.baseline, made.ratio) == (20.0, 10.0, 2.0)


@pytest.mark.parametrize(("unit", "best"), [("reads/s", 3.0), ("ms", 1.0)])
def test_the_best_round_is_told(unit: str, best: float) -> None:
    """The highest ratio of rates, the lowest of durations."""
    assert figure("name", unit, [2.0, 1.0, 3.0], [1.0, 1.0, 1.0]).best == best


def test_a_limit_is_the_baseline_of_every_round() -> None:
    """One baseline for all rounds needs no repetition."""
    assert figure("name", "us, at most 1", [0.2, 0.4, 0.3], [1.0]).ratio == 0.3


@pytest.mark.parametrize(
    ("unit", "values", "met"),
    [
        ("reads/s", [2.0], True),
        ("reads/s", [1.9], False),
        ("attributes/CPU-s", [2.0], True),
        ("ms, 100,000", [2.0], True),
        ("ms, 100,000", [2.1], False),
        ("us CPU", [2.1], False),
        ("cores", [1.0], True),
    ],
)
def test_a_goal_is_reached_by_rates_and_not_exceeded_by_durations(
    unit: str, values: list[float], met: bool
) -> None:
    """The unit says which."""
    assert figure("name", unit, values, [1.0], 2.0).met is met


def test_without_a_goal_nothing_is_met_or_missed() -> None:
    """A figure that only stands beside others says neither yes nor no."""
    assert figure("name", "reads/s", [1.0], [2.0]).met is None


def test_rates_name_their_load_generator() -> None:
    """Ratios under two generators are two figures."""
    load = Load(100, 50.0, 1.0, 2.0, 0.1, "h2load")
    made = rates("read", [(load, load)], 0.6)
    assert (made.key, made.ratio, made.met) == (("read", "h2load"), 1.0, True)


def test_the_middle_of_loads_is_taken_number_by_number() -> None:
    """The median rate may be of another round than the median p99."""
    loads = [Load(9, rate, 1.0, p99) for rate, p99 in ((1.0, 9.0), (2.0, 7.0), (3.0, 8.0))]
    assert (middle(loads).per_second, middle(loads).p99_ms) == (2.0, 8.0)


def test_percentiles_are_of_sorted_latencies() -> None:
    """p50 and p99 in milliseconds, from microseconds."""
    load = summary(10.0, list(range(1_000, 101_000, 1_000)))
    assert (load.requests, load.p50_ms, load.p99_ms) == (100, 51.0, 100.0)


def test_a_ghz_run_with_a_failed_call_is_refused() -> None:
    """A call that was refused is faster than one that was answered."""
    latencies = [{"percentage": 50, "latency": 2_000_000}, {"percentage": 99, "latency": 3_000_000}]
    document = {"statusCodeDistribution": {"OK": 10}, "rps": 5.0, "latencyDistribution": latencies}
    assert ghz_load(document, 10) == Load(10, 5.0, 2.0, 3.0, by="ghz")
    with pytest.raises(RuntimeError):
        ghz_load(document, 11)


def test_rows_that_were_not_measured_stay(tmp_path: Path) -> None:
    """A run of some rows replaces those, and no others."""
    results.write("latest", [one("a", 0.1), one("b", 0.2)], tmp_path)
    results.write("latest", [one("b", 0.3)], tmp_path, some=True)
    found = results.read("latest", tmp_path)
    assert found is not None
    assert {figure.id: figure.ratio for figure in found.figures} == {"a": 0.1, "b": 0.3}


def test_figures_of_another_machine_do_not_stay(tmp_path: Path) -> None:
    """One file is of one machine."""
    path = results.write("latest", [one("a")], tmp_path)
    document = json.loads(path.read_text("utf-8"))
    document["machine"]["cpus"] = -1
    path.write_text(json.dumps(document), "utf-8")
    results.write("latest", [one("b")], tmp_path, some=True)
    found = results.read("latest", tmp_path)
    assert found is not None
    assert [figure.id for figure in found.figures] == ["b"]


def test_a_whole_run_replaces_the_file(tmp_path: Path) -> None:
    """Figures that have another name now do not stay for ever."""
    results.write("latest", [one("a")], tmp_path)
    results.write("latest", [one("b")], tmp_path)
    found = results.read("latest", tmp_path)
    assert found is not None
    assert [figure.id for figure in found.figures] == ["b"]


def test_the_kept_run_is_that_of_the_newest_release(tmp_path: Path) -> None:
    """0.10 comes after 0.9, and the last run is none that was kept."""
    for name in ("0.9.0", "0.10.0", "latest", "quick"):
        results.write(name, [one(name)], tmp_path)
    found = results.kept("python", tmp_path)
    assert found is not None
    assert [figure.id for figure in found.figures] == ["0.10.0"]


def test_each_build_has_a_kept_run_of_its_own(tmp_path: Path) -> None:
    """A run of the compiled build is compared with no run of the Python sources, however new."""
    for name in ("0.9.0", "0.9.0-compiled", "0.10.0"):
        results.write(name, [one(name)], tmp_path)
    kept = {build: results.kept(build, tmp_path) for build in ("python", "compiled", "other")}
    assert {build: found and found.path.stem for build, found in kept.items()} == {
        "python": "0.10.0", "compiled": "0.9.0-compiled", "other": None,
    }  # fmt: skip


def test_a_result_names_the_build_that_was_measured(tmp_path: Path) -> None:
    """Runs of before there was a choice are of Python."""
    path = results.write("latest", [one()], tmp_path)
    found = results.read("latest", tmp_path)
    assert found is not None
    assert found.build == BUILD
    path.write_text(json.dumps({"machine": {"cpus": 2}, "figures": []}), "utf-8")
    older = results.read("latest", tmp_path)
    assert older is not None
    assert older.build == "python"


def test_the_table_is_headed_by_the_build() -> None:
    """Whoever reads figures sees of what they are."""
    console = Console(width=150, record=True, quiet=False, file=io.StringIO())
    console.print(figures.table([one()]))
    assert f"build: {BUILD}" in console.export_text()


@pytest.mark.parametrize(("build", "stays"), [(BUILD, True), ("another", False)])
def test_parts_of_another_build_do_not_stay_in_one_file(
    build: str, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make bench-scale` measures part by part: its file is of one build."""
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    document = {"clients": {"8": 1}, "machine": {"build": build}}
    (tmp_path / "scale.json").write_text(json.dumps(document), "utf-8")
    assert bool(measuring.read_alike("scale")) is stays


@pytest.mark.parametrize(("last", "kept", "code"), [("compiled", "python", 2), ("compiled", "compiled", 0)])
def test_a_run_is_compared_with_none_of_another_build(
    last: str, kept: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That there is nothing to compare is said, with the build, and is exit code 2."""
    monkeypatch.setattr(compare, "read", partial(results.read, folder=tmp_path))
    monkeypatch.setattr(compare, "kept", partial(results.kept, folder=tmp_path))
    machine = {"cpus": 2, "build": kept}
    for build in (kept, last):
        path = results.write("latest", [one()], tmp_path)
        document = json.loads(path.read_text("utf-8")) | {"machine": machine | {"build": build}}
        path.write_text(json.dumps(document), "utf-8")
        if build == kept:
            results.keep(tmp_path)
    console = Console(width=150, file=io.StringIO())
    assert compare.show(console) == code
    assert "compiled" in console.file.getvalue()  # type: ignore[attr-defined]


def test_keeping_copies_the_last_run_under_the_version(tmp_path: Path) -> None:
    """What was measured is kept as it is; without a run there is nothing to keep."""
    with pytest.raises(SystemExit):
        results.keep(tmp_path)
    last = results.write("latest", [one()], tmp_path)
    kept = results.keep(tmp_path)
    build = "" if BUILD == "python" else f"-{BUILD}"
    assert kept.name == f"{vault.__version__}{build}.json"
    assert kept.read_bytes() == last.read_bytes()


def test_a_row_that_cannot_be_measured_takes_no_other_with_it() -> None:
    """Ten minutes of figures are not lost for one server that did not start; the row is named."""

    def fails() -> list[Figure]:
        raise SystemExit("not answered in full")

    found, failed = all_of({"first": lambda: [one("a")], "second": fails, "third": lambda: [one("b")]})
    assert [figure.id for figure in found] == ["a", "b"]
    assert failed == {"second": "SystemExit: not answered in full"}


def test_unknown_rows_are_refused() -> None:
    """A misspelt row is told, not left out."""
    with pytest.raises(KeyError, match="reads"):
        named(["reads"], quick=False)


def test_a_quick_run_names_what_it_leaves_out() -> None:
    """Every row is either measured or named."""
    measured, left_out = named([row.name for row in ROWS], quick=True)
    assert {*measured, *left_out} == {row.name for row in ROWS}
    assert "sqlite" in measured
    assert "growth" in left_out
