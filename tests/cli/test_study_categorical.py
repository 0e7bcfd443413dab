"""`chemmara study categorical` by the files it leaves."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from .conftest import invoke

SAMPLED = ("sampled", "sampled_plain", "sampled_from_prior", "sampled_plain_from_prior")
FAST = ("--seeds", 2, "--steps", 8, "--exact-steps", 8)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "made" / "here"
    result = invoke("study", "categorical", "-o", out, *FAST)
    assert result.exit_code == 0, result.output
    assert "mass on the modes" in result.stdout
    assert "floor log pi_ref" in result.stdout
    assert f"written: {out / 'masses.csv'}" in result.stdout
    return out


@pytest.mark.slow
def test_masses(whole: Path) -> None:
    found = rows(whole / "masses.csv")
    assert {"figure", "kl", "augmentation", "beta", "source", "block", "mass"} <= set(found[0])
    assert {row["figure"] for row in found} == {"2", "3", "4", "5", "7", "8"}
    assert {row["source"] for row in found} == {"theory", "exact", "paper", *SAMPLED}
    key = ("figure", "kl", "augmentation", "beta", "source", "block")
    values = {tuple(row[name] for name in key): float(row["mass"]) for row in found}
    assert len(values) == len(found)
    assert values[("2", "reverse", "none", "0.1", "theory", "20-24")] == pytest.approx(0.353, abs=5e-4)
    assert values[("8", "forward", "none", "0.0001", "theory", "70-74")] == pytest.approx(0.130, abs=5e-4)
    assert values[("5", "reverse", "mara", "1.0", "paper", "25-49")] == 0.033
    totals: dict[tuple[str, ...], float] = {}
    for row in found:
        if row["source"] != "paper":
            run = tuple(row[name] for name in key[:-1])
            totals[run] = totals.get(run, 0.0) + float(row["mass"])
    assert all(total == pytest.approx(1) for total in totals.values())
    assert {row["seeds"] for row in found if row["source"] == "sampled"} == {"2"}


@pytest.mark.slow
def test_other_files(whole: Path) -> None:
    assert {row["source"] for row in rows(whole / "beta_flip.csv")} == {"theory", "exact", "sampled"}
    sweeps = rows(whole / "sweeps.csv")
    assert {row["sweep"] for row in sweeps} == {"beta", "threshold", "anchor", "batch size", "percentile"}
    assert {row["anchor"] for row in sweeps if row["sweep"] == "anchor"} == {"batch", "running", "random", "lowest"}
    assert {row["estimator"] for row in rows(whole / "estimators.csv")} >= {"forward_kl", "k1 differentiated"}
    names = {path.name for path in whole.glob("*.png")}
    assert names == {f"figure-{n}.png" for n in (2, 3, 4, 5, 7, 8)} | {"sweeps.png", "estimators.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in whole.glob("*.png"))
    assert "beta_flip" in (whole / "summary.md").read_text()


def test_some_figures_and_the_same_numbers_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        result = invoke("study", "categorical", "-o", tmp_path / name, "--figures", "3,7", "--seed", 5, *FAST)
        assert result.exit_code == 0, result.output
    first, second = ((tmp_path / name / "masses.csv").read_bytes() for name in ("a", "b"))
    assert first == second
    assert {row["figure"] for row in rows(tmp_path / "a" / "masses.csv")} == {"3", "7"}
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "masses.csv",
        "figure-3.png",
        "figure-7.png",
        "summary.md",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--figures", "6"], "--figures: there is no figure 6; valid: 2, 3, 4, 5, 7, 8"),
        (["--figures", "two"], "'two' is no list of figures"),
        (["--seeds", "0"], "--seeds"),
    ],
    ids=str,
)
def test_wrong_options_are_one_line_and_write_nothing(tmp_path: Path, options: list[str], message: str) -> None:
    result = invoke("study", "categorical", "-o", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    result = invoke("study", "categorical", "-o", tmp_path / "out", *FAST)
    assert result.exit_code == 2
    assert result.stderr.startswith("chemmara: ")
    assert "is a file; choose a directory" in result.stderr
    assert (tmp_path / "out").read_text() == "mine"
    inside = invoke("study", "categorical", "-o", tmp_path / "out" / "below", *FAST)
    assert inside.exit_code == 2
    assert len(inside.stderr.strip().splitlines()) == 1
