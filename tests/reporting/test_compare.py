"""Comparison of methods: values worked out by hand, the exact test against scipy's, and the files."""

from __future__ import annotations

import doctest
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import mannwhitneyu

from chemmara.errors import UserError
from chemmara.metrics import diversity
from chemmara.metrics.table import metric
from chemmara.reporting import measures, statistics
from chemmara.reporting.compare import FILES, compare, mean_and_sd
from chemmara.reporting.export import export
from chemmara.reporting.measures import COMPARED, digest, measure, scaffold_curve
from chemmara.reporting.runs import find_run

from .conftest import MakeRuns, make_row


def test_measures_of_a_run_by_hand(make_runs: MakeRuns) -> None:
    counted = digest(find_run(make_runs("mara/seed-0")))
    # Toluene, hexane, pyridine (failed), benzoic acid, piperidine; the repeat and the two invalid rows are no calls.
    assert counted.smiles == ["Cc1ccccc1", "CCCCCC", "c1ccncc1", "O=C(O)c1ccccc1", "C1CCNCC1"]
    assert (counted.sampled, counted.valid) == (8, 6)
    values, all_scored = measure(counted, [0.7, 0.0])
    assert {name: values[name] for name in ("oracle_calls", "hits", "scaffolds", "generic_scaffolds", "circles")} == {
        "oracle_calls": 5,
        "hits": 3,
        "scaffolds": 1,
        "generic_scaffolds": 1,
        "circles": 2,  # toluene and benzoic acid are near, hexane is far from both
    }
    assert values["top_10"] == pytest.approx((0.75 + 0.9 + 0.8 + 0.3) / 4)
    assert values["burden_10"] == math.inf
    assert values["validity"] == 6 / 8
    assert values["uniqueness"] == 5 / 6
    hits = ["CCCCCC", "Cc1ccccc1", "O=C(O)c1ccccc1"]
    assert values["intdiv1"] == pytest.approx(diversity.internal_diversity(hits))
    assert values["circles"] == diversity.circles(hits)
    assert values["generic_scaffolds"] == diversity.generic_scaffolds(hits)
    assert (all_scored["hits"], all_scored["scaffolds"], all_scored["generic_scaffolds"]) == (4, 2, 1)
    assert scaffold_curve(counted, 0.0) == [0, 1, 1, 1, 1, 2]
    (none,) = measure(counted, [0.99])
    assert math.isnan(none["intdiv1"])
    assert (none["hits"], none["circles"]) == (0, 0)


def test_validity_is_of_what_the_agent_wrote(make_runs: MakeRuns) -> None:
    run = find_run(make_runs("mara/seed-0"))
    given = [
        replace(make_row(0, 90, "CCO", 0.9), origin="seed"),
        replace(make_row(1, 91, "Cc1ccccc1", 0.75), origin="bred"),
    ]
    counted = digest(replace(run, reader=lambda: iter([*given, *run.rows()])))
    assert (counted.sampled, counted.valid, counted.distinct) == (8, 6, 5)
    (values,) = measure(counted, [0.7])
    assert (values["validity"], values["uniqueness"]) == (6 / 8, 5 / 6)
    assert (values["oracle_calls"], values["hits"]) == (6, 4)  # both are calls; toluene is the agent's as well


def test_uniqueness_does_not_depend_on_the_screen(make_runs: MakeRuns) -> None:
    run = find_run(make_runs("mara/seed-0"))
    refused = [
        replace(make_row(1, 90 + k, text, None), error="not sent: full") for k, text in enumerate(("CCN", "CCN"))
    ]
    (values,) = measure(digest(replace(run, reader=lambda: iter([*run.rows(), *refused]))), [0.7])
    assert (values["oracle_calls"], values["uniqueness"]) == (5, 6 / 8)


def test_clean_figures_by_hand(make_runs: MakeRuns) -> None:
    # A radical, a ring of nine, a peroxide and an atom that no prior writes; three clean molecules of two scaffolds.
    odd = [("C=N[N+]=C", 0.95), ("C1CCCCCCCC1", 0.9), ("c1ccccc1COOC", 0.85), ("C[SH](C)c1ccncc1", 0.85)]
    good = [("Cc1ccccc1", 0.75), ("O=C(O)c1ccccc1", 0.8), ("Cc1ccncc1", 0.7), ("CCCO", 0.2)]
    counted = digest(find_run(make_runs("mara/seed-0", samples=[*odd, *good])))
    (values,) = measure(counted, [0.6])
    assert (values["hits"], values["hits_clean"]) == (7, 3)
    assert (values["scaffolds"], values["scaffolds_clean"]) == (3, 2)
    clean = ["Cc1ccccc1", "O=C(O)c1ccccc1", "Cc1ccncc1"]
    assert values["circles_clean"] == diversity.circles(clean) < values["circles"]
    assert values["top_100_clean"] == pytest.approx((0.75 + 0.8 + 0.7 + 0.2) / 4)  # the clean ones, hits or not
    (none,) = measure(counted, [0.82])
    assert (none["hits"], none["hits_clean"], none["circles_clean"]) == (4, 0, 0)
    assert none["top_100_clean"] == values["top_100_clean"]
    assert measures._best_clean(counted, 2, {}) == [5, 4]


def test_clean_figures_of_a_clean_run_and_of_an_empty_one(make_runs: MakeRuns, tmp_path: Path) -> None:
    values = measure(digest(find_run(make_runs("mara/seed-0"))), [0.7])[0]
    assert all(values[f"{name}_clean"] == values[name] for name in ("hits", "scaffolds", "circles", "top_100"))
    (tmp_path / "none.csv").write_text("SMILES,score\nC=N[N+]=C,0.9\n")
    values = measure(digest(find_run(tmp_path / "none.csv")), [0.7])[0]
    assert (values["hits"], values["hits_clean"]) == (1, 0)
    assert math.isnan(values["top_100_clean"])


def test_burden_counts_failed_calls(make_runs: MakeRuns) -> None:
    samples: list[tuple[str, float | None]] = [("C" * n, None if n == 3 else 0.9) for n in range(1, 12)]
    counted = digest(find_run(make_runs("mara/seed-0", samples=samples)))
    assert measure(counted, [0.5])[0]["burden_10"] == 11


def test_a_retried_molecule_keeps_its_place_and_gets_its_score(make_runs: MakeRuns) -> None:
    samples: list[tuple[str, float | None]] = [("CCO", None), ("CC", 0.1), ("OCC", 0.8), ("CCO", 0.2)]
    counted = digest(find_run(make_runs("mara/seed-0", samples=samples)))
    assert (counted.smiles, counted.scores) == (["CCO", "CC"], [0.8, 0.1])


def test_every_compared_metric_has_a_meaning() -> None:
    assert all(metric(name).meaning for name in COMPARED)


def numbered(count: int, shift: float) -> list[tuple[str, float | None]]:
    return [("C" * n + "c1ccccc1", min(1.0, 0.5 + 0.01 * n + shift)) for n in range(count)]


def seeds(make_runs: MakeRuns, counts: dict[str, list[int]]) -> Path:
    root = Path()
    for method, sizes in counts.items():
        for seed, size in enumerate(sizes):
            root = make_runs(f"{method}/seed-{seed}", samples=numbered(size, 0.2))
    return root


def test_five_seeds_against_five(make_runs: MakeRuns, tmp_path: Path) -> None:
    root = seeds(make_runs, {"vanilla": [3, 4, 5, 6, 7], "mara": [12, 13, 14, 15, 16]})
    seen: list[str] = []
    outcome = compare(root, thresholds=[0.6, 0.75], progress=lambda run: seen.append(run.name))
    assert len(seen) == 10
    row = outcome.table[(outcome.table.threshold == 0.6) & (outcome.table.method == "mara")].iloc[0]
    assert (row.seeds, row.hits_mean, row.oracle_calls_mean) == (5, 14.0, 14.0)
    assert row.hits_sd == pytest.approx(np.std([12, 13, 14, 15, 16], ddof=1))
    test = outcome.tests[(outcome.tests.threshold == 0.6) & (outcome.tests.metric == "hits")].iloc[0]
    assert test.p == pytest.approx(2 / math.comb(10, 5))  # the most extreme of 252 splits, and its mirror
    assert test.p_holm == test.p
    assert (test.method_a, test.method_b, test.u) == ("mara", "vanilla", 25)
    same = outcome.tests[(outcome.tests.threshold == 0.6) & (outcome.tests.metric == "scaffolds")].iloc[0]
    assert same.p == 1.0  # benzene's scaffold everywhere
    burden = outcome.tests[(outcome.tests.threshold == 0.6) & (outcome.tests.metric == "burden_10")].iloc[0]
    assert burden.p == 1.0  # in three calls, the shortest run, nobody finds ten hits
    paths = outcome.save(tmp_path / "saved")
    assert [path.name for path in paths] == list(FILES)
    assert paths[2].read_bytes().startswith(b"\x89PNG")
    assert np.allclose(pd.read_csv(paths[0]).hits_mean, outcome.table.hits_mean)
    assert len(pd.read_csv(paths[1])) == 2 * len(COMPARED)


def test_rendered_tables_say_it_all(make_runs: MakeRuns) -> None:
    root = seeds(make_runs, {"vanilla": [3, 4], "mara": [12, 9]})
    outcome = compare(root)
    assert outcome.thresholds == (0.7,)  # from the manifests
    assert set(outcome.tests.note) == {"too few seeds"}
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for table in outcome.render():
        console.print(table)
    text = console.export_text()
    for part in ("mara (2)", "vanilla (2)", "10.5 ± 2.1", "too few seeds", "reached by 1 of 2", "#Circles(0.7), clean"):
        assert part in text


def test_one_seed_has_no_spread_and_three_methods_have_their_own_table(make_runs: MakeRuns, tmp_path: Path) -> None:
    root = seeds(make_runs, {"[bold]a": [3] * 5, "b": [4] * 5, "c": [5] * 5, "d": [5]})
    outcome = compare(root)
    assert outcome.table.set_index("method").hits_sd.isna().to_dict() == {
        "[bold]a": False,
        "b": False,
        "c": False,
        "d": True,
    }
    hits = outcome.tests[outcome.tests.metric == "hits"].set_index(["method_a", "method_b"])
    p = 2 / math.comb(10, 5)
    assert hits.p_holm["[bold]a", "b"] == pytest.approx(3 * p)  # three pairs were tested; those with d were not
    assert hits.note["c", "d"] == "too few seeds"
    tables = outcome.render()
    assert len(tables) == 2
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(tables[0])
    text = console.export_text()
    assert "[bold]a (5)" in text
    row = next(line for line in text.splitlines() if " hits " in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")[1:]] == ["3.0 ± 0.0", "4.0 ± 0.0", "5.0 ± 0.0", "5"]
    outcome.save(tmp_path)


def test_tables_from_elsewhere_stand_beside_runs(make_runs: MakeRuns, tmp_path: Path) -> None:
    root = make_runs("mara/seed-0")
    (tmp_path / "reinvent.csv").write_text("SMILES,Score,SMILES_state\nc1ccccc1C,0.9,1\nCC,0.8,1\nc1,0.0,0\n")
    outcome = compare([root, tmp_path / "reinvent.csv", root / "mara" / "seed-0"], thresholds=[0.6])
    assert outcome.table.set_index("method").hits_mean.to_dict() == {"mara": 3, "reinvent": 2}
    assert outcome.table.seeds.tolist() == [1, 1]  # the run that was named twice counts once
    assert outcome.runs.set_index("method").validity["reinvent"] == pytest.approx(2 / 3)


def test_a_top_100_of_fewer_is_told(make_runs: MakeRuns, tmp_path: Path) -> None:
    many = tmp_path / "many.csv"
    many.write_text("SMILES,score\n" + "".join(f"{'C' * n},0.5\n" for n in range(1, 102)))
    remarks = compare([make_runs("mara/seed-0"), many]).remarks
    assert any("fewer than 100 molecules have a score in 'mara/seed-0' (4): their mean top-100" in r for r in remarks)


def test_methods_of_one_name_are_told_apart(make_runs: MakeRuns) -> None:
    roots = [make_runs("mara/seed-0", folder=folder) for folder in ("first", "second")]
    assert compare(roots).table.method.tolist() == ["first/mara", "second/mara"]


def test_two_tables_of_one_folder_are_no_two_seeds(make_runs: MakeRuns, tmp_path: Path) -> None:
    """Exported from two runs of one method and one seed: a method each, named by its file."""
    for folder in ("first", "second"):
        export(find_run(make_runs("mara/seed-0", folder=folder)), tmp_path / f"{folder}.csv")
    outcome = compare([tmp_path / "first.csv", tmp_path / "second.csv"])
    assert outcome.table.method.tolist() == ["first.csv/mara", "second.csv/mara"]
    assert outcome.table.seeds.tolist() == [1, 1]
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "lib.csv").write_text("SMILES,score\nCCO,0.5\n")
    outcome = compare([tmp_path / folder / "lib.csv" for folder in ("one", "other")])
    assert outcome.table.method.tolist() == ["one/lib", "other/lib"]


def test_empty_run_and_bad_input(tmp_path: Path) -> None:
    (tmp_path / "none.csv").write_text("SMILES,score\n")
    outcome = compare(tmp_path / "none.csv")
    assert math.isnan(outcome.table.validity_mean[0])
    outcome.save(tmp_path / "out")
    with pytest.raises(UserError, match="--threshold"):
        compare(tmp_path / "none.csv", thresholds=[math.nan])
    with pytest.raises(UserError, match="nothing to compare"):
        compare([])
    with pytest.raises(UserError, match="cannot write"):
        outcome.save(tmp_path / "none.csv")


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(statistics).failed == 0
    assert doctest.testmod(measures).failed == 0


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=12, unique=True), st.data())
def test_without_ties_it_is_scipys_exact_test(values: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(values) - 1))
    one, other = list(map(float, values[:cut])), list(map(float, values[cut:]))
    u, p = statistics.mann_whitney(one, other)
    reference = mannwhitneyu(one, other, method="exact")
    assert (u, p) == pytest.approx((reference.statistic, reference.pvalue))
    doubled = [2 * (1 + sum(other_value < value for other_value in values)) for value in values]
    assert statistics._permutation_p(doubled, cut) == pytest.approx(p)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=9), st.data())
def test_with_ties_it_is_the_enumeration_of_all_splits(values: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(values) - 1))

    def u_of(chosen: tuple[int, ...]) -> float:
        rest = [values[i] for i in range(len(values)) if i not in chosen]
        return sum((values[i] > v) + 0.5 * (values[i] == v) for i in chosen for v in rest)

    middle = cut * (len(values) - cut) / 2
    observed = abs(u_of(tuple(range(cut))) - middle)
    splits = [abs(u_of(chosen) - middle) for chosen in itertools.combinations(range(len(values)), cut)]
    u, p = statistics.mann_whitney(list(map(float, values[:cut])), list(map(float, values[cut:])))
    assert u == u_of(tuple(range(cut)))
    assert p == pytest.approx(sum(value >= observed - 1e-9 for value in splits) / len(splits))


def test_infinity_is_the_largest_value_and_nan_is_refused() -> None:
    inf = math.inf
    assert statistics.mann_whitney([1, 2, 3], [inf, inf, inf])[1] == pytest.approx(0.1)
    assert statistics.mann_whitney([inf] * 3, [inf] * 3)[1] == 1.0
    with pytest.raises(ValueError, match="NaN"):
        statistics.mann_whitney([1.0, math.nan], [2.0])


def test_mean_and_spread() -> None:
    assert mean_and_sd([1.0, 3.0, math.nan]) == (2.0, pytest.approx(math.sqrt(2)))
    mean, sd = mean_and_sd([1.0, math.inf])
    assert mean == math.inf
    assert math.isnan(sd)
    assert all(map(math.isnan, mean_and_sd([])))


def test_what_the_manifests_keep_tells_scores_apart(make_runs: MakeRuns) -> None:
    """The same config, and other contents of a file that it names."""
    root = make_runs("mara/seed-0", "mara/seed-1")

    def keep(seed: int, **more: object) -> None:
        path = root / "mara" / f"seed-{seed}" / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **more}))

    keep(0, score=["geometric_mean", [["qed", "k1"]]])
    assert not any("one goal" in remark for remark in compare(root).remarks), "the other does not say"
    keep(1, score=["geometric_mean", [["qed", "k2"]]])
    assert any("what it reads and runs, differs between" in remark for remark in compare(root).remarks)
    keep(1, score=["geometric_mean", [["qed", "k1"]]], score_before=[["geometric_mean", [["qed", "k0"]]]])
    (remark,) = (remark for remark in compare(root).remarks if "mended" in remark)
    assert "seed-1' went on with a mended oracle" in remark
    assert not any("one goal" in remark for remark in compare(root).remarks)


def test_runs_of_other_settings_are_not_one_method(make_runs: MakeRuns) -> None:
    """Seeds of two machines are pooled; seeds of two goals or step sizes are two methods of one name."""

    def begin(folder: str, seed: int, rate: float, budget: int = 100, **manifest: object) -> Path:
        root = make_runs(f"mara/seed-{seed}", folder=folder)
        run = root / "mara" / f"seed-{seed}"
        (run / "config.toml").write_text(
            f"seed = {seed}\noracle_budget = {budget}\n[objective]\nlearning_rate = {rate}\n"
            f"[execution]\nthreads = {seed + 1}\n[replay]\nseed_molecules = '/{folder}/mine.smi'\n"
        )
        kept = json.loads((run / "manifest.json").read_text())
        (run / "manifest.json").write_text(json.dumps({**kept, "score": ["product", []], **manifest}))
        return root

    one = begin("one", 0, 1e-4)
    assert compare([one, begin("two", 1, 1e-4, budget=200)]).table.method.tolist() == ["mara"]
    assert compare([one, begin("three", 2, 1e-3)]).table.method.tolist() == ["one/mara", "three/mara"]
    other = begin("four", 3, 1e-4, score=["product", [["qed", "k"]]])
    assert compare([one, other]).table.method.tolist() == ["one/mara", "four/mara"]
    newer = begin("five", 4, 1e-4, versions={"chemmara": "9.9"})
    with (newer / "mara/seed-4/config.toml").open("a") as stream:
        stream.write("turns = 3\n")  # a key of [replay] that only the newer version has
    assert compare([one, newer]).table.method.tolist() == ["mara"]
    assert compare([newer, begin("six", 5, 1e-4, versions={"chemmara": "9.9"})]).table.method.nunique() == 2
    digs = "[exploit]\nshare = 0.2\n"
    later = begin("seven", 6, 1e-4, budget=200, versions={"chemmara": "9.9"})
    for folder, seed in ((later, 6), (begin("eight", 7, 1e-4, budget=300), 7)):
        with (folder / f"mara/seed-{seed}/config.toml").open("a") as stream:
            stream.write(digs)
    assert compare([one, later]).table.method.nunique() == 2, "without the table it does not dig, whatever its version"
    assert compare([later, later.parent / "eight"]).table.method.nunique() == 2, "they dig at other calls"
    bred = [begin("nine", 8, 1e-4), begin("ten", 9, 1e-4, versions={"chemmara": "9.9"})]
    for folder, seed in zip(bred, (8, 9)):
        with (folder / f"mara/seed-{seed}/config.toml").open("a") as stream:
            stream.write("[genetic]\noffspring = 4\n")
    assert compare(bred).table.method.tolist() == ["mara"]
    with (bred[1] / "mara/seed-9/config.toml").open("a") as stream:
        stream.write("ahead = 4\n")
    assert compare(bred).table.method.nunique() == 2, "where nothing is said of it, one generation was bred"
    stage = [begin(f"stage{n}", n, 1e-4, prior_sha256="p", agent_sha256=f"a{n}") for n in (6, 7)]
    assert compare(stage).table.method.tolist() == ["mara"], "each seed of a second stage has its own agent"
    again = compare(begin("one", 4, 1e-3))  # within a folder nothing tells them apart, so it is said
    assert again.table.method.tolist() == ["mara"]
    assert any("the runs of 'mara' differ in objective.learning_rate" in remark for remark in again.remarks)


def test_a_burden_beyond_the_shortest_run_is_not_reached(make_runs: MakeRuns) -> None:
    """Five runs of 30 calls without ten hits are no worse than five of 60 that have them after the 30th."""
    for length, first in ((30, 40), (60, 40)):
        for seed in range(5):
            scores = [0.9 if at >= first else 0.1 for at in range(length)]
            root = make_runs(f"m{length}/seed-{seed}", samples=[("C" * (at + 1), s) for at, s in enumerate(scores)])
    found = compare(root)
    row = found.tests[found.tests.metric == "burden_10"].iloc[0]
    assert row.p == 1
    long = found.table[found.table.method == "m60"].iloc[0]
    assert long.burden_10_mean == 50
    assert any("is tested as one that was not reached" in remark for remark in found.remarks)
    hits = found.tests[found.tests.metric == "hits"].iloc[0]
    assert hits.p < 0.01


def test_an_infinite_score_is_none(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("SMILES,score\nCCF,inf\nCCCl,0.9\n")
    found = compare(path).runs.iloc[0]
    assert (found.hits, found.top_10) == (1, 0.9)
