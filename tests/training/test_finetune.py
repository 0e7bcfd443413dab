"""Transfer learning: closer to the data, stopped in time, resumable, and never a crash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from chemmara.errors import UserError
from chemmara.language.corpus import HELD_OUT, Corpus
from chemmara.policies.catalog import find_prior
from chemmara.policies.storage import load_policy
from chemmara.training import fit
from chemmara.training.finetune import FIGURES, REPORT, finetune
from chemmara.training.settings import FinetuneSettings

from .test_fit import fail, rows, same

AMINES = [f"{'C' * i}N({'C' * j}){tail}" for i in range(1, 6) for j in range(1, 5) for tail in ("C", "CCO")]


@pytest.fixture
def amines(tmp_path: Path) -> Path:
    path = tmp_path / "amines.smi"
    path.write_text("\n".join([*AMINES, "[Pt]CC", "C[Se]C", "nonsense"]) + "\n")
    return path


def settings(prior: Path, **changes: Any) -> FinetuneSettings:
    small = {"initial": str(prior), "samples": 100, "precision": "float32", "checkpoint_seconds": 0.0, "epochs": 12}
    return FinetuneSettings(**{**small, "learning_rate": 5e-3, "batch_size": 8, **changes})


def run(files: Path, out: Path, chosen: FinetuneSettings, **options: Any) -> list[str]:
    said: list[str] = []
    finetune([files], out, chosen, say=said.append, progress=False, command="chemmara finetune", **options)
    return said


def test_samples_come_closer_to_the_data(tiny_prior: Path, amines: Path, tmp_path: Path) -> None:
    said = run(amines, tmp_path / "out", settings(tiny_prior))
    figures = json.loads((tmp_path / "out" / FIGURES).read_text())
    before, after = figures["before"], figures["after"]
    assert after["valid_nll"] < 0.5 * before["valid_nll"]
    assert after["similarity"] > before["similarity"] + 0.2
    assert after["validity"] > before["validity"]
    report = (tmp_path / "out" / REPORT).read_text()
    for table in (before, after):
        assert all(f"{value:.3f}" in report for value in table.values())
    assert any("[Pt] (1)" in line and "[Se] (1)" in line and "line 41: [Pt]CC" in line for line in said)
    assert load_policy(tmp_path / "out").vocabulary == find_prior(tiny_prior).vocabulary()


def test_it_ends_when_the_validation_loss_does_not_fall_and_keeps_the_best(
    tiny_prior: Path, amines: Path, tmp_path: Path
) -> None:
    run(amines, tmp_path / "out", settings(tiny_prior, learning_rate=0.05, patience=2, epochs=40))
    losses = [float(row["valid_nll"]) for row in rows(tmp_path / "out")]
    best = losses.index(min(losses))
    assert len(losses) == best + 3 < 40
    policy = load_policy(tmp_path / "out")
    policy.precision = "float32"
    held_out = Corpus(tmp_path / "out" / "corpus" / HELD_OUT)
    with torch.no_grad():
        ids = torch.from_numpy(held_out.batch(torch.arange(len(held_out)).numpy()))
        assert -policy.log_prob(ids).mean().item() == pytest.approx(min(losses), abs=0.02)  # half precision on disk
    assert find_prior(tmp_path / "out").header()["history"]["epoch"] == best + 1


@pytest.mark.parametrize(
    "at",
    [
        pytest.param(3, id="inside an epoch"),
        pytest.param(-2, id="after an epoch", marks=pytest.mark.slow),
        pytest.param(-4, id="at the last one", marks=pytest.mark.slow),
    ],
)
def test_stopped_anywhere_it_resumes_to_the_same_bits(
    tiny_prior: Path, amines: Path, tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from .conftest import Act

    chosen = settings(tiny_prior, learning_rate=0.05, patience=2, randomize=True)
    run(amines, tmp_path / "whole", chosen)
    make = fit._trainer
    monkeypatch.setattr(fit, "_trainer", lambda s, callbacks: make(s, [*callbacks, Act(at, fail)]))
    with pytest.raises(RuntimeError, match="the test stops here"):
        run(amines, tmp_path / "halves", chosen)
    monkeypatch.undo()
    run(amines, tmp_path / "halves", chosen, resume=True)
    assert same(tmp_path / "whole", tmp_path / "halves")
    assert (tmp_path / "whole" / REPORT).read_text() == (tmp_path / "halves" / REPORT).read_text()
    (said,) = run(amines, tmp_path / "halves", chosen, resume=True)
    assert said.startswith(
        f"{tmp_path / 'halves'} is finished: nothing to do; to train on from it: chemmara finetune {tmp_path}"
    )


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_handful_of_molecules_is_enough(tiny_prior: Path, tmp_path: Path, n: int) -> None:
    (tmp_path / "few.smi").write_text("\n".join(AMINES[:n]) + "\n")
    said = run(tmp_path / "few.smi", tmp_path / "out", settings(tiny_prior, epochs=2))
    held_out = len(Corpus(tmp_path / "out" / "corpus" / HELD_OUT))
    assert held_out + len(Corpus(tmp_path / "out" / "corpus")) == n
    assert ("too few molecules" in " ".join(said)) == (held_out == 0)
    assert (tmp_path / "out" / REPORT).is_file()


def test_a_file_of_its_own_for_validation(tiny_prior: Path, amines: Path, tmp_path: Path) -> None:
    (tmp_path / "v.smi").write_text("CCN\nCCCN\n")
    run(amines, tmp_path / "out", settings(tiny_prior, epochs=1), validation=tmp_path / "v.smi")
    assert len(Corpus(tmp_path / "out" / "corpus" / HELD_OUT)) == 2


def test_nothing_usable_is_one_line(tiny_prior: Path, tmp_path: Path) -> None:
    (tmp_path / "x.smi").write_text("[Pt]CC\n")
    with pytest.raises(UserError, match=r"no usable molecule in .*\[Pt\] \(1\)"):
        run(tmp_path / "x.smi", tmp_path / "out", settings(tiny_prior))
    with pytest.raises(UserError, match="unknown prior"):
        run(tmp_path / "x.smi", tmp_path / "out", settings(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_each_architecture_is_trained_and_tuned(name: str, molecules: Path, tmp_path: Path) -> None:
    from chemmara.training.settings import TrainSettings

    shape = {"gru": {"embedding_size": 8, "hidden_size": 16, "layers": 2}, "transformer": {"width": 16, "heads": 2}}
    chosen = TrainSettings(
        policy={"name": name, **shape[name], "layers": 2}, epochs=8, batch_size=8, samples=20, learning_rate=0.02
    )
    fit.train([molecules], tmp_path / "prior", chosen, say=lambda text: None, progress=False)
    losses = [float(row["valid_nll"]) for row in rows(tmp_path / "prior")]
    assert losses[-1] < 0.85 * losses[0]
    run(molecules, tmp_path / "tuned", settings(tmp_path / "prior", epochs=1))
    assert load_policy(tmp_path / "tuned").architecture == name


def test_a_size_stands_for_a_shape(molecules: Path, tmp_path: Path) -> None:
    from chemmara.policies.policy import POLICIES, expand_size

    for entry in POLICIES:
        small, base = (expand_size({"name": entry.name, "size": size}) for size in ("small", "base"))
        assert entry.parameters(**{k: v for k, v in base.items() if k != "name"}) == entry.parameters()
        assert small != base
    assert expand_size({"name": "gru", "size": "small", "layers": 1})["layers"] == 1
    with pytest.raises(UserError, match="policy 'lstm' has no size 'smal'; did you mean 'small'"):
        expand_size({"name": "lstm", "size": "smal"})
