"""Surrogates: the file gives what scikit-learn gives, the figures are honest, bad tables are one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chemmara.chemistry.molecules import Molecule, read
from chemmara.errors import ConfigError, UserError
from chemmara.scoring import work
from chemmara.scoring.forests import load_forest, mean_of
from chemmara.workflows.surrogate import train_surrogate
from chemmara.workflows.surrogate_data import read_surrogate_data
from chemmara.workflows.surrogate_figures import cross_validated, judged, rounded, schemes
from chemmara.workflows.surrogate_models import SurrogateSettings, fit

CHAINS = ["C" * n for n in range(1, 13)]
SMILES = [f"{chain}{end}" for end in ("N", "O", "c1ccccc1", "C1CCNCC1") for chain in CHAINS]
TINY = SurrogateSettings(trees=10, folds=2, size=256, repeats=2)


def write(path: Path, value: str = "value", test: bool = False) -> Path:
    """Molecules with the number of their carbons as value; every fourth to test on, if asked."""
    lines = [f"SMILES,name,{value}{',Split' if test else ''}"]
    for number, smiles in enumerate(SMILES):
        part = f",{'test' if number % 4 == 3 else 'train'}" if test else ""
        lines.append(f"{smiles},m{number},{smiles.upper().count('C')}{part}")
    path.write_text("\n".join(lines) + "\n")
    return path


def classes(path: Path) -> Path:
    rows = [f"{smiles},{int('N' in smiles)}" for smiles in SMILES]
    path.write_text("smiles,active\n" + "\n".join(rows) + "\n")
    return path


def molecule(smiles: str) -> Molecule:
    found = read(smiles).molecule
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def needed() -> None:
    pytest.importorskip("sklearn")


@pytest.mark.parametrize("model", ["forest", "boosting"])
def test_a_regression_is_learned_and_usable_in_a_config(model: Any, tmp_path: Path) -> None:
    data = write(tmp_path / "d.csv", test=True)
    settings = SurrogateSettings(model=model, trees=40, folds=2, size=512, repeats=2)
    figures = train_surrogate(data, tmp_path / "out", settings, unit="atoms")
    assert figures["task"] == "regression"
    assert figures["train"]["molecules"] == 36
    assert figures["test"]["molecules"] == 12
    assert figures == json.loads((tmp_path / "out" / "forest.json").read_text())
    assert figures["test"]["rmse"] < 0.8 * read_surrogate_data(data).values.std()
    assert set(figures["scaffold_splits"]["domain"]) == {"near", "far"}
    build = lambda **more: work.build("forest", {"model": str(tmp_path / "out"), **more}, "here")  # noqa: E731
    value = build()
    assert (value.bounds, value.unit) == ((None, None), "atoms")
    batch = [molecule("CCCN"), molecule("FC(F)(F)S(=O)(=O)Cl")]
    middle, spread, low, high, near = (
        [e.value for e in build(output=output)(batch)]
        for output in ("value", "uncertainty", "lower", "upper", "similarity")
    )
    assert near[0] == 1 > near[1]
    for index in range(2):
        assert low[index] == pytest.approx(middle[index] - spread[index])
        assert high[index] == pytest.approx(middle[index] + spread[index])
    keys = {
        work.spec_of("forest", build(output=output)).key for output in ("value", "uncertainty", "lower", "similarity")
    }
    assert len(keys) == 4


@pytest.mark.parametrize("model", ["forest", "boosting"])
def test_a_classification_gives_probabilities_that_are_scikit_learns(model: Any, tmp_path: Path) -> None:
    data = read_surrogate_data(classes(tmp_path / "d.csv"), size=256)
    assert data.task == "classification"
    settings = SurrogateSettings(model=model, trees=10, size=256, repeats=2)
    forest = fit(data, data.part("train"), settings)
    said = forest.predict(data.rows)
    assert ((said >= 0) & (said <= 1)).all()
    if model == "forest":
        from sklearn.ensemble import RandomForestClassifier

        expected = RandomForestClassifier(10, random_state=0).fit(data.rows, data.values).predict_proba(data.rows)[:, 1]
        assert said == pytest.approx(expected, abs=1e-12)
    assert np.array_equal(mean_of(forest.members(data.rows[:1])), said[:1]), "not a question of the neighbours"


def test_counts_are_counts(tmp_path: Path) -> None:
    data = read_surrogate_data(write(tmp_path / "d.csv"), size=256)
    assert data.rows.max() > 3


def test_no_scaffold_is_on_both_sides(tmp_path: Path) -> None:
    data = read_surrogate_data(write(tmp_path / "d.csv"), size=64)
    folds = dict(schemes(data, data.part("train"), TINY))
    for train, test in folds["scaffold"]:
        assert not {data.scaffolds[i] for i in train} & {data.scaffolds[i] for i in test}
        assert sorted([*train, *test]) == list(range(len(SMILES)))
    assert any({data.scaffolds[i] for i in a} & {data.scaffolds[i] for i in b} for a, b in folds["random"])


def test_the_figures_are_of_molecules_not_seen(tmp_path: Path) -> None:
    """Values without any reason cannot be predicted; a model judged on what it has seen would seem to."""
    data = read_surrogate_data(write(tmp_path / "d.csv"), size=256)
    data.values = np.random.default_rng(0).normal(size=len(data.values))
    folds = dict(schemes(data, data.part("train"), TINY))
    assert cross_validated(data, folds["random"], TINY)["r2"] < 0.2
    everything = data.part("train")
    assert judged(data, [(everything, everything)], [fit(data, everything, TINY)])["r2"] > 0.5


def test_values_that_trees_take_for_one_are_refused(tmp_path: Path) -> None:
    """In mol/l a forest's root is pure to scikit-learn, and R2 was 1.000 by a floor under the variance."""
    table = tmp_path / "kd.csv"
    table.write_text("SMILES,Kd\n" + "".join(f"{s},{(n % 7 + 1) * 1e-9}\n" for n, s in enumerate(SMILES)))
    with pytest.raises(UserError, match=r"'Kd' differ by 2e-09 only.*smaller unit, or their logarithm"):
        train_surrogate(table, tmp_path / "m", TINY)
    assert not (tmp_path / "m").exists()


def test_of_values_that_are_all_one_there_is_no_share_explained(tmp_path: Path) -> None:
    data = read_surrogate_data(write(tmp_path / "d.csv"), size=64)
    everything = data.part("train")
    model = fit(data, everything, TINY)
    data.values = np.full(len(data.values), 5.0)
    figures = judged(data, [(everything, everything)], [model])
    assert "r2" not in figures
    assert figures["rmse"] > 0


def test_small_errors_keep_their_digits() -> None:
    assert [rounded(value) for value in (0.123456, 12.34567, 0.000123456, 0.0, -0.002345)] == [
        0.1235, 12.3457, 0.000123, 0.0, -0.00234,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("actives", "folds", "words"), [(4, 5, "lower --folds to 4"), (1, 3, "--folds 0 trains without")]
)
def test_more_folds_than_a_class_has_molecules(tmp_path: Path, actives: int, folds: int, words: str) -> None:
    table = tmp_path / "few.csv"
    table.write_text("SMILES,active\n" + "".join(f"{s},{int(n < actives)}\n" for n, s in enumerate(SMILES)))
    with pytest.raises(UserError, match=words):
        train_surrogate(table, tmp_path / "m", SurrogateSettings(trees=2, folds=folds, size=64))


def test_a_column_is_found_whatever_its_case_and_blanks(tmp_path: Path) -> None:
    table = tmp_path / "excel.csv"
    table.write_text("Structure ,pIC50\n" + "".join(f"{s},{n}\n" for n, s in enumerate(SMILES)))
    found = read_surrogate_data(table, smiles="structure", value="PIC50", size=64)
    assert found.columns["value"] == "pIC50"


def test_same_seed_same_file(tmp_path: Path) -> None:
    data = write(tmp_path / "d.csv")
    for name in ("one", "two"):
        train_surrogate(data, tmp_path / name, TINY)
    one, two = (load_forest(tmp_path / name / "forest.npz") for name in ("one", "two"))
    assert one.meta == two.meta
    assert np.array_equal(one.value, two.value)


def test_columns_are_found_or_asked_for(tmp_path: Path) -> None:
    odd = write(tmp_path / "odd.csv", value="minus_delta_g")
    assert read_surrogate_data(odd).columns == {"smiles": "SMILES", "value": "minus_delta_g"}
    two = tmp_path / "two.csv"
    two.write_text("mol,a,b\n" + "\n".join(f"{s},{n},{-n}" for n, s in enumerate(SMILES)))
    with pytest.raises(UserError, match="which column is the smiles"):
        read_surrogate_data(two)
    with pytest.raises(UserError, match="which column is the value"):
        read_surrogate_data(two, smiles="mol")
    assert read_surrogate_data(two, smiles="mol", value="b").values[2] == -2
    with pytest.raises(UserError, match="no column 'bb'"):
        read_surrogate_data(two, value="bb")


def test_a_column_of_words_is_no_value(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    rows = [f"{s},EGFR,{'<' if n % 4 == 0 else ''}{n}.5,{n % 2}" for n, s in enumerate(SMILES)]
    path.write_text("SMILES,Target,pIC50,plate\n" + "\n".join(rows))
    data = read_surrogate_data(path)
    assert data.columns["value"] == "pIC50"
    assert (data.unread, data.example) == (12, "<0.5")
    said: list[str] = []
    train_surrogate(path, tmp_path / "m", TINY, say=said.append)
    assert "values are those of the column 'pIC50'" in said
    assert any("12 of them are left out" in line and "'<0.5'" in line for line in said)
    path.write_text("SMILES,Target,pIC50\n" + "\n".join(f"{s},EGFR,<{n}" for n, s in enumerate(SMILES)))
    with pytest.raises(UserError, match=r"0 molecules with a number in 'pIC50' .* 48 without a number, such as '<0'"):
        read_surrogate_data(path)


@pytest.mark.parametrize("column", ["key", "component"])
def test_values_of_several_oracles_are_never_averaged(tmp_path: Path, column: str) -> None:
    """As `ledger export` writes them; a column of that name in another table is its own matter."""
    other = {"key": "component", "component": "key"}[column]
    path = tmp_path / "d.csv"
    rows = [f"{s},one,{oracle},{n}" for n, s in enumerate(SMILES) for oracle in ("qed", "vina")]
    path.write_text(f"SMILES,{other},{column},value\n" + "\n".join(rows))
    with pytest.raises(UserError, match=f"the values of 2 components in its column '{column}': qed .48 rows., vina"):
        read_surrogate_data(path)
    path.write_text(f"SMILES,{other},{column},value\n" + "\n".join(rows[::2]))
    assert len(read_surrogate_data(path).values) == len(SMILES)
    path.write_text(f"SMILES,colour,{column},value\n" + "\n".join(rows))
    assert len(read_surrogate_data(path).values) == len(SMILES), "the mean of both is taken, and counted"


def test_a_model_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    data = write(tmp_path / "d.csv")
    train_surrogate(data, tmp_path / "m", TINY)
    before = (tmp_path / "m" / "forest.npz").read_bytes()
    with pytest.raises(UserError, match="holds a surrogate already; choose another directory"):
        train_surrogate(classes(tmp_path / "e.csv"), tmp_path / "m", TINY)
    assert (tmp_path / "m" / "forest.npz").read_bytes() == before


def test_odd_rows_are_counted(tmp_path: Path) -> None:
    rows = [
        *(f"{s},{n}" for n, s in enumerate(SMILES)),
        "C1CC,3",
        "CCO,",
        "CCO,nan",
        "OCC,7,",
        "CCO",
        "CCO,1,2",
        ",",
        "",
    ]
    path = tmp_path / "d.csv"
    path.write_text("smiles,value\n" + "\n".join(rows))
    data = read_surrogate_data(path)
    assert data.left_out == {
        "not a molecule": 1, "without a number": 3, "repeated (the mean is taken)": 1,
        "of more cells than the header has": 1,
    }  # fmt: skip
    assert data.values[SMILES.index("CCO")] == (SMILES.index("CCO") + 7) / 2


def test_a_spreadsheet_of_decimal_commas(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("\ufeffName;Smiles;pIC50\n" + "".join(f"{n};{s};{n},5\n" for n, s in enumerate(SMILES)))
    data = read_surrogate_data(path)
    assert data.values.tolist() == [n + 0.5 for n in range(len(SMILES))]
    path.write_text("Smiles,pIC50\n" + "".join(f'{s},"{n},5"\n' for n, s in enumerate(SMILES)))
    with pytest.raises(UserError, match=r"rows left out: \d+ without a number, such as '0,5'"):
        read_surrogate_data(path)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("PK\x03\x04 and so on", "is an Excel workbook"),
        ("", "which column is the smiles"),
        ("smiles,value\nCCO,1\n", "has 1 molecule with a number in 'value' to train on; at least 20"),
        ("smiles,value\n" + "\n".join(f"{s},1" for s in SMILES), "all values in 'value' are 1; nothing can be learned"),
    ],
)
def test_bad_tables_are_one_line(text: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(UserError, match=fault):
        read_surrogate_data(tmp_path / "d.csv")
    with pytest.raises(UserError, match="does not exist"):
        read_surrogate_data(tmp_path / "nowhere.csv")
    with pytest.raises(UserError, match="needs values of 0 and 1"):
        read_surrogate_data(write(tmp_path / "w.csv"), task="classification")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"folds": 1}, "--folds: should be from 2"),
        ({"trees": 0}, "--trees: should be from 1"),
        ({"size": 100}, "multiple of 8"),
        ({"model": "svm"}, "--model: should be forest or boosting"),
        ({"fingerprint": "phco"}, "--fingerprint should be"),
    ],
)
def test_settings_without_sense(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        SurrogateSettings(**changes)


def test_the_bundled_forest_knows_no_training_molecules() -> None:
    with pytest.raises(ConfigError, match="holds no training molecules"):
        work.build("forest", {"model": "gsk3b", "output": "similarity"}, "here")
    assert work.build("forest", {"model": "gsk3b", "output": "uncertainty"}, "here")([molecule("CCO")])[0].value < 0.3
    low, high = (
        work.build("forest", {"model": "gsk3b", "output": output}, "here")([molecule("c1ccc2[nH]ccc2c1")])[0].value
        for output in ("lower", "upper")
    )
    assert 0 <= low < high <= 1


def test_the_command(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from chemmara.cli.main import app

    data = write(tmp_path / "d.csv")
    small = ["--trees", "3", "--folds", "2", "--size", "64"]
    result = CliRunner().invoke(app, ["surrogate", "train", str(data), "-o", str(tmp_path / "m"), *small])
    assert result.exit_code == 0, result.output
    assert "scaffold splits" in result.stdout
    config = tmp_path / "c.toml"
    config.write_text(
        '[[scoring.component]]\nname = "forest"\nmodel = "m"\ntransform = { name = "clip", low = 0, high = 12 }\n'
    )
    (tmp_path / "in.smi").write_text("CCCN\n")
    scored = CliRunner().invoke(app, ["score", str(config), str(tmp_path / "in.smi"), "-o", str(tmp_path / "s.csv")])
    assert scored.exit_code == 0, scored.output
    wrong = CliRunner().invoke(app, ["surrogate", "train", str(data), "-o", str(tmp_path / "n"), "--task", "guess"])
    assert wrong.exit_code == 2
    assert "Traceback" not in wrong.output


def test_repeats_that_contradict_one_another_leave_a_classification_one(tmp_path: Path) -> None:
    lines = [f"{'C' * n}O,{n % 2}" for n in range(1, 31)]
    (tmp_path / "labels.csv").write_text("\n".join(["smiles,label", *lines, "CO,0", "CO,1", "CCO,1"]) + "\n")
    data = read_surrogate_data(tmp_path / "labels.csv")
    assert data.task == "classification"
    assert data.values[:2].tolist() == [1.0, 0.0], "the majority of 1, 0, 1; of 0, 1 neither, which is no active"
