"""A scaffold at the command line: validated, run, and its molecules taken away."""

from __future__ import annotations

from pathlib import Path

from .conftest import invoke

SCORE = '[[scoring.component]]\nname = "qed"\n'


def config(tmp_path: Path, prior: Path, more: str = "") -> Path:
    path = tmp_path / "decorate.toml"
    path.write_text(
        f'prior = "{prior}"\noracle_budget = 40\nmax_steps = 3\nbatch_size = 16\nthreshold = 0.3\nmax_tokens = 60\n'
        f'scaffold = "*c1ccncc1"\n{more}[execution]\nthreads = 1\n{SCORE}'
    )
    return path


def test_validate_says_what_molecules_are_built_on(tiny_prior: Path, tmp_path: Path) -> None:
    (tmp_path / "seeds.smi").write_text("Cc1ccncc1\nCCO\n")
    more = '[replay]\nupdates = 1\nseed_molecules = "seeds.smi"\n'
    result = invoke("validate", config(tmp_path, tiny_prior, more), "--method", "vanilla")
    assert result.exit_code == 0, result.stderr
    assert "scaffold: *c1ccncc1, on which every molecule is built" in result.stdout
    assert "seed molecules: 1 of" in result.stdout
    assert "not the scaffold with something at its open atom alone" in result.stdout


def test_a_run_says_how_sequences_begin_and_its_agent_is_asked_the_same_way(tiny_prior: Path, tmp_path: Path) -> None:
    result = invoke("optimize", config(tmp_path, tiny_prior), "--method", "mara", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "upon *c1ccncc1: every sequence begins with " in result.stdout
    start = result.stdout.split("every sequence begins with ")[1].split()[0]
    agent = tmp_path / "out" / "mara" / "seed-0"
    result = invoke("sample", agent, "-n", 20, "--scaffold", "*c1ccncc1", "-o", tmp_path / "more.smi")
    assert result.exit_code == 0, result.stderr
    texts = (tmp_path / "more.smi").read_text().split("\n")[:20]
    assert len({text[: len(start)] for text in texts}) == 1


def test_a_scaffold_that_cannot_be_is_named_with_its_key(tiny_prior: Path, tmp_path: Path) -> None:
    result = invoke("validate", config(tmp_path, tiny_prior), "--set", "scaffold=*CC*")
    assert result.exit_code == 2
    assert "scaffold: " in result.stderr
    assert "2 attachment points" in result.stderr
    assert "Traceback" not in result.stderr
