"""The screen: what is not worth an oracle call, why, and that a screened run counts, learns and resumes rightly."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from crash import StopAfter

from chemmara.chemistry.environments import EnvironmentTable
from chemmara.chemistry.molecules import Molecule, read
from chemmara.chemistry.plausibility import standard
from chemmara.errors import ConfigError
from chemmara.optimization.rollout import Judge, Sampled, Seen, score_batch
from chemmara.optimization.screening import SCREENS, Screen, ScreenSettings, check_screen
from chemmara.optimization.settings import RunSettings
from chemmara.registry import Entry
from chemmara.scoring.function import ScoringFunction
from chemmara.workflows.optimize import optimize

BENZENE, TOLUENE, PYRIDINE, DIAZO = "c1ccccc1", "Cc1ccccc1", "c1ccncc1", "CC=[N+]=[N-]"
Config = Callable[..., dict[str, Any]]


def molecule(text: str) -> Molecule:
    found = read(text).molecule
    assert found
    return found


def screen(*rules: dict[str, Any], draws: int = 6) -> Screen:
    return Screen(ScreenSettings(draws=draws, rule=list(rules)))


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_covered_scaffold_is_refused_within_the_step_and_after_it() -> None:
    rule = screen({"name": "scaffold"})
    assert rule.judge(molecule(BENZENE)) == (None, False)
    reason, penalised = rule.judge(molecule(TOLUENE))
    assert reason == "not sent: its scaffold has 1 scored already"
    assert not penalised
    assert rule.judge(molecule(PYRIDINE)) == (None, False)
    assert rule.refused == {"scaffold": 1}


def test_a_poor_molecule_does_not_fill_a_bucket_but_a_failed_one_never_does() -> None:
    for score, refused in ((0.3, False), (0.7, True), (np.nan, False)):
        rule = screen({"name": "scaffold", "minimum_score": 0.5})
        rule.judge(molecule(BENZENE))
        rule.learn([molecule(BENZENE)], np.array([score]), np.array([True]))
        assert (rule.judge(molecule(TOLUENE))[0] is not None) == refused


def test_seed_molecules_fill_their_buckets() -> None:
    """They are scored without having been judged."""
    for score, refused in ((0.3, False), (0.7, True), (np.nan, False)):
        rule = screen({"name": "scaffold", "minimum_score": 0.5})
        rule.learn([molecule(BENZENE)], np.array([score]), np.array([True]))
        assert (rule.judge(molecule(TOLUENE))[0] is not None) == refused
        rule.learn([molecule(TOLUENE)], np.array([0.9]), np.array([not refused]))
        assert rule.judge(molecule("CCc1ccccc1"))[0] is not None, "no seed makes room for more than the bucket holds"


def test_a_generic_scaffold_covers_other_atoms() -> None:
    rule = screen({"name": "generic_scaffold"})
    rule.judge(molecule(BENZENE))
    assert rule.judge(molecule(PYRIDINE))[0]


def test_clusters_grow_where_no_new_ones_are_found() -> None:
    rule = screen({"name": "cluster", "bucket_size": 2, "similarity": 0.4, "growth": 2.0})
    near = ["CCCCCCO", "CCCCCCCO", "CCCCCCCCO", "CCCCCCCCCO", "CCCCCCCCCCO", "CCCCCCCCCCCO"]
    for smiles in near:  # one cluster alone is always below twice the mean
        assert rule.judge(molecule(smiles))[0] is None
        rule.learn([molecule(smiles)], np.array([0.9]), np.array([True]))
    for smiles in ("c1ccc2ccccc2c1", "C1CCNCC1", "CC(=O)N(C)C", "FC(F)(F)C(F)(F)F"):  # four of one each: the mean is 2
        rule.learn([molecule(smiles)], np.array([0.9]), np.array([True]))
    assert rule.closed(near[0])
    assert not rule.closed("C1CCNCC1")


def test_hits_alone_fill_a_cluster_unless_told_otherwise(config: Any) -> None:
    table = config(threshold=0.65, screen={"rule": [{"name": "cluster"}, {"name": "scaffold"}]})
    cluster, scaffold = RunSettings.parse(table).to_table()["screen"]["rule"]
    assert (cluster["minimum_score"], scaffold["minimum_score"]) == (0.65, 0.0)
    table["screen"]["rule"][0]["minimum_score"] = 0.2
    assert RunSettings.parse(table).to_table()["screen"]["rule"][0]["minimum_score"] == 0.2


def test_a_full_cluster_is_refused_and_other_chemistry_is_not() -> None:
    rule = screen({"name": "cluster", "bucket_size": 2, "similarity": 0.4})
    near = ["CCCCCCO", "CCCCCCCO", "CCCCCCCCO"]
    for text in near[:2]:
        assert rule.judge(molecule(text))[0] is None
        rule.learn([molecule(text)], np.array([0.9]), np.array([True]))
    assert rule.judge(molecule(near[2]))[0] == "not sent: the cluster of CCCCCCO is full"
    assert rule.judge(molecule(BENZENE))[0] is None


def test_implausible_chemistry_is_refused_and_penalised() -> None:
    assert standard().fault(molecule(DIAZO))
    reason, penalised = screen({"name": "plausible"}).judge(molecule(DIAZO))
    assert reason
    assert penalised
    assert screen({"name": "plausible", "penalise": False}).judge(molecule(DIAZO))[1] is False


def test_the_gate_of_another_kind_of_chemistry(tmp_path: Path) -> None:
    """Macrocycles, and the environments of another prior; its file is found beside the config."""
    macrocycle = "O=C1CCCCCCCCCCCCCCN1"
    assert "large ring" in str(screen({"name": "plausible"}).judge(molecule(macrocycle))[0])
    wide = screen({"name": "plausible", "largest_ring": 16}).judge(molecule(macrocycle))[0]
    assert "large ring" not in str(wide)
    counted = [molecule(text).mol for text in ("CCO", "CCN", "CCO", "CCN")]
    EnvironmentTable.count(counted, "a test").save(tmp_path / "mine.tsv")
    rule = check_screen({"rule": [{"name": "plausible", "table": "mine.tsv"}]}, tmp_path).rule[0]
    assert rule["table"] == str(tmp_path / "mine.tsv")
    own = screen(rule)
    assert own.judge(molecule("CCO"))[0] is None
    assert "rare environment" in str(own.judge(molecule("CC(=O)Nc1ccc(O)cc1"))[0])
    assert screen({"name": "plausible"}).judge(molecule("CC(=O)Nc1ccc(O)cc1"))[0] is None
    (tmp_path / "foreign.tsv").write_text("a table\n")
    for name, fault in (("foreign.tsv", "is no environment table"), ("none.tsv", "none.tsv")):
        with pytest.raises(ConfigError, match=rf"screen\.rule\[0\]\.table: .*{fault}"):
            check_screen({"rule": [{"name": "plausible", "table": name}]}, tmp_path)


@pytest.fixture
def known(tmp_path: Path) -> Path:
    path = tmp_path / "known.smi"
    path.write_text("c1ccccc1C toluene\nOc1ccc(NC(C)=O)cc1 paracetamol\nC[C@H](N)C(=O)O alanine\n")
    return path


def test_a_known_molecule_is_refused_in_any_spelling(known: Path) -> None:
    rule = screen({"name": "known", "file": str(known)})
    assert rule.judge(molecule("CC(=O)Nc1ccc(O)cc1"))[0] == "not sent: known from known.smi"
    assert rule.judge(molecule("C[C@@H](N)C(=O)O"))[0] is None
    flat = screen({"name": "known", "file": str(known), "ignore_stereo": True})
    assert flat.judge(molecule("C[C@@H](N)C(=O)O"))[0]
    assert flat.judge(molecule(BENZENE))[0] is None
    known.write_text("C[NH2+]CCc1ccccc1.[Cl-] a salt\n")
    assert screen({"name": "known", "file": str(known)}).judge(molecule("CNCCc1ccccc1"))[0]


def test_what_is_too_similar_is_refused(known: Path) -> None:
    near = screen({"name": "similar", "references_file": str(known), "similarity": 0.5})
    reason, penalised = near.judge(molecule("CC(=O)Nc1ccc(OC)cc1"))
    assert reason == "not sent: its similarity to CC(=O)Nc1ccc(O)cc1 is 0.59"
    assert not penalised
    assert near.judge(molecule("CCCCCCN"))[0] is None
    assert near.judge(molecule("CCCCCCN"))[0] is None, "what was sent is no reference, unless that is asked for"
    run = screen({"name": "similar", "known": True, "similarity": 0.7})
    assert run.judge(molecule("CCCCCCO"))[0] is None
    assert run.judge(molecule("CCCCCCCO"))[0] == "not sent: its similarity to CCCCCCO is 1.00"
    run.learn([molecule(PYRIDINE)], np.array([0.1]), np.array([True]))
    assert run.judge(molecule(PYRIDINE))[0], "a seed molecule was scored, though nobody judged it"


def test_windows_and_patterns_are_hard_limits() -> None:
    limits = screen({"name": "windows", "windows": {"molecular_weight": {"high": 100}, "logp": {"low": 0, "high": 3}}})
    assert limits.judge(molecule(TOLUENE)) == (None, False)
    assert limits.judge(molecule("CC(=O)Nc1ccc(O)cc1")) == (
        "not sent: molecular_weight 151.165 is outside of ..100",
        True,
    )
    assert limits.judge(molecule("NCCO")) == ("not sent: logp -1.0626 is outside of 0..3", True)
    patterns = screen({"name": "smarts", "match": ["c1ccccc1"], "avoid": ["[OH]", "[NH2]"], "penalise": False})
    assert patterns.judge(molecule(TOLUENE)) == (None, False)
    assert patterns.judge(molecule(PYRIDINE)) == ("not sent: lacks c1ccccc1", False)
    assert patterns.judge(molecule("Oc1ccccc1")) == ("not sent: has [OH]", False)
    assert patterns.refused == {"smarts": 2}


def test_paths_of_a_screen_are_looked_for_beside_the_config(known: Path) -> None:
    settings = check_screen({"rule": [{"name": "known", "file": "known.smi"}]}, known.parent)
    assert settings.rule[0]["file"] == str(known)
    assert check_screen({"rule": settings.rule}) == settings, "a resolved config means the same anywhere"


NEEDED: dict[str, dict[str, Any]] = {
    "windows": {"windows": {"logp": {"high": 2}}},
    "smarts": {"avoid": ["[OH]"]},
    "similar": {"known": True, "similarity": 0.5},
}


@pytest.mark.parametrize("entry", list(SCREENS), ids=lambda entry: entry.name)
def test_state_survives_json(entry: Entry[Any], known: Path) -> None:
    texts = [BENZENE, TOLUENE, PYRIDINE, "CCO", "CCCO", DIAZO, "c1ccc2ccccc2c1", "CC(=O)Nc1ccc(O)cc1"]
    table = {"name": entry.name, **NEEDED.get(entry.name, {})} | ({"file": str(known)} if entry.name == "known" else {})
    first, second = screen(table), screen(table)
    for text in texts[:5]:
        if first.judge(molecule(text))[0] is None:
            first.learn([molecule(text)], np.array([0.8]), np.array([True]))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.refused == first.refused
    assert [second.judge(molecule(text)) for text in texts] == [first.judge(molecule(text)) for text in texts]


def test_rows_beyond_the_batch_teach_only_what_was_sent() -> None:
    seen = Seen.empty()
    judge = Judge(screen({"name": "scaffold"}), seen, wanted=3)
    batch = Sampled([], [], [], [], [], 3)
    texts = [BENZENE, TOLUENE, "no molecule", PYRIDINE, TOLUENE, "nor this", "CCO", "CCCO"]
    judge.add(batch, texts, texts)
    assert judge.admitted == 3
    scored = score_batch(batch, ScoringFunction({"component": [{"name": "qed"}]}), seen, budget=10, threshold=0.5)
    assert scored.first.tolist() == [True, False, False, True, False, False, True, False]
    assert scored.learnable.tolist() == [True, False, True, True, False, False, True, False]
    assert seen.calls == 3
    assert scored.errors[7] == "not sent: the step had its molecules"
    assert [bool(e) for e in scored.errors] == [False, True, True, False, True, True, False, True]


def test_what_was_cut_off_is_learned_from_as_invalid_text_is() -> None:
    seen = Seen.empty()
    judge = Judge(screen({"name": "scaffold"}), seen, wanted=3)
    batch = Sampled([], [], [], [], [], 3)
    judge.add(batch, [BENZENE, TOLUENE, "no molecule"], [BENZENE, TOLUENE, "no molecule"], [True, False, True])
    scored = score_batch(batch, ScoringFunction({"component": [{"name": "qed"}]}), seen, budget=10, threshold=0.5)
    assert scored.valid.tolist() == [True, False, False]
    assert scored.learnable.tolist() == [True, True, True]
    assert scored.errors[1] == "no end token within max_tokens"
    assert list(seen.smiles) == [BENZENE], "and is no oracle call"


RULES = [
    {"name": "smarts", "avoid": ["[#6]1~[#6]~[#6]1"]},
    {"name": "scaffold"},
    {"name": "similar", "known": True, "similarity": 0.8},
    {"name": "plausible"},
    {"name": "windows", "windows": {"heavy_atoms": {"low": 3}}},
    {"name": "cluster", "minimum_score": 0.2},
]
SCREEN = {"draws": 4, "rule": RULES}
BATCH = 8


def test_a_screened_run_spends_no_call_on_what_it_refused_and_resumes(config: Config, tmp_path: Path) -> None:
    def run(name: str, **options: Any) -> Path:
        table = config(
            oracle_budget=30,
            max_steps=15,
            screen=SCREEN,
            replay={"updates": 1, "batch_size": 4},
            execution={"threads": 1, "device": "cpu", "checkpoint_seconds": 0},
        )
        return optimize(table, tmp_path / name, methods=["custom"], report=False, **options) / "custom" / "seed-0"

    whole = run("whole")
    table = rows(whole / "molecules.csv")
    sent = [row for row in table if row["valid"] == "True" and not row["error"]]
    refused = [row for row in table if row["error"].startswith("not sent")]
    assert refused
    assert sent
    assert not any(row["score"] for row in refused), "what was not sent has no score"
    assert not {row["SMILES"] for row in sent} & {row["SMILES"] for row in refused}
    covered = [row["scaffold"] or row["SMILES"] for row in {row["SMILES"]: row for row in sent}.values()]
    assert len(covered) == len(set(covered)), "a scaffold was paid for twice"
    metrics = rows(whole / "metrics.csv")
    assert int(metrics[-1]["oracle_calls"]) == len(covered)
    assert sum(int(row["sampled"]) for row in metrics) == len(table)
    assert sum(int(row["not_sent"]) for row in metrics) == len(refused)
    assert any(int(row["sampled"]) > 8 for row in metrics), "it never sampled beyond the batch"
    told = json.loads((whole / "manifest.json").read_text())["refused"]
    assert set(told) <= {str(rule["name"]) for rule in RULES}
    assert len(told) >= 2
    assert {name: int(metrics[-1][f"refused_{name}"]) for name in told} == told
    assert metrics[-1]["refused_known"] == "", "no such rule in this run"
    at = [index for row in metrics for index in range(int(row["sampled"]))]
    unlearned = [row for row, index in zip(table, at) if index >= BATCH and row["error"]]
    assert any(row["error"].startswith("not sent") for row in unlearned)
    assert [row for row in table if not row["prior_log_prob"]] == unlearned, "the prior reads what teaches, and that"
    assert all(row["agent_log_prob"] for row in table)
    first = [row for row, index in zip(table, at) if index < BATCH and row["step"] == "2"]
    kl = [float(row["agent_log_prob"]) - float(row["prior_log_prob"]) for row in first]
    assert float(metrics[1]["kl"]) == pytest.approx(sum(kl) / len(kl), abs=1e-3), "of the fair sample alone"
    assert "refused.plausible" in (whole / "report.html").read_text()
    with pytest.raises(RuntimeError, match="crash"):
        run("cut", watcher=StopAfter(3))
    assert (run("cut", resume=True) / "molecules.csv").read_bytes() == (whole / "molecules.csv").read_bytes()


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match=r"screen\.rule\[0\]\.name: unknown screen rule 'scafold'.*scaffold"):
        check_screen({"rule": [{"name": "scafold"}]})
    with pytest.raises(ConfigError, match="stands there twice"):
        check_screen({"rule": [{"name": "scaffold"}, {"name": "scaffold"}]})
    with pytest.raises(ConfigError, match=r"screen\.rule\[0\]\.similarity"):
        check_screen({"rule": [{"name": "cluster", "similarity": 1.5}]})
    with pytest.raises(ConfigError, match=r"screen\.rule\[1\]\.windows: unknown descriptor 'logq'.*logp"):
        check_screen({"rule": [{"name": "scaffold"}, {"name": "windows", "windows": {"logq": {"high": 3}}}]})
    with pytest.raises(ConfigError, match=r"screen\.rule\[0\]\.file: file '.*absent\.smi' does not exist"):
        check_screen({"rule": [{"name": "known", "file": "absent.smi"}]})
    with pytest.raises(ConfigError, match=r"screen\.rule\[0\]\.avoid\[0\]: 'c1c' cannot be parsed as SMARTS"):
        check_screen({"rule": [{"name": "smarts", "avoid": ["c1c"]}]})
    with pytest.raises(ConfigError, match=r"screen\.rule\[0\]\.match: no SMARTS"):
        check_screen({"rule": [{"name": "smarts"}]})
    with pytest.raises(ConfigError, match=r"screen\.rule\[0\]\.known: nothing to be similar to"):
        check_screen({"rule": [{"name": "similar"}]})
    with pytest.raises(ConfigError, match=r"screen.*draw"):
        check_screen({"draw": 3})


class TestHitShare:
    """Buckets that grow while hits are short, and shrink while they are plenty: as wide a search as leaves enough."""

    TABLE: ClassVar[dict[str, Any]] = {
        "name": "cluster", "bucket_size": 2, "similarity": 0.4, "minimum_score": 0.5, "hit_share": 0.5,
    }  # fmt: skip
    CHAIN, OTHER = "CCCCCCO", "c1ccc2ccccc2c1"

    def full(self, **changes: Any) -> Screen:
        """A screen with a full cluster about CHAIN."""
        rule = screen({**self.TABLE, **changes})
        self.teach(rule, [0.9, 0.9], self.CHAIN)
        assert rule.closed(self.CHAIN)
        return rule

    @staticmethod
    def teach(rule: Screen, scores: Sequence[float], smiles: str = OTHER) -> None:
        for score in scores:
            rule.learn([molecule(smiles)], np.array([score]), np.array([True]))

    def test_a_full_cluster_opens_when_too_few_hits_are_found_elsewhere(self) -> None:
        rule = self.full()
        self.teach(rule, [0.1] * 125)
        assert rule.closed(self.CHAIN), "the share is of 128 molecules"
        self.teach(rule, [0.1])
        assert not rule.closed(self.CHAIN)
        self.teach(rule, [0.9], self.CHAIN)
        assert rule.closed(self.CHAIN), "one more has filled it"

    def test_it_stays_closed_while_hits_are_plenty(self) -> None:
        rule = self.full(hit_share=0.4)
        self.teach(rule, [0.1, 0.9] * 200)
        assert rule.closed(self.CHAIN)
        assert self.full().judge(molecule("CCCCCCCO"))[0]

    @pytest.mark.parametrize(("hits", "closed"), [(472, False), (476, True), (2000, True)])
    def test_buckets_shrink_while_hits_are_plenty(self, hits: int, closed: bool) -> None:
        """From 2 to 1.5 by ln(4/3)/ln(1.002) = 144 scores, to 1 by 347, once there are 128."""
        shrinking, kept = screen({**self.TABLE, "shrink_to": 1}), screen(self.TABLE)
        for rule in (shrinking, kept):
            self.teach(rule, [0.9], self.CHAIN)
            self.teach(rule, [0.9] * (hits - 1))
            assert not rule.judge(molecule("C1CCNCC1"))[0], "other chemistry stays open"
        assert shrinking.closed(self.CHAIN) == closed
        assert not kept.closed(self.CHAIN)

    def test_they_shrink_to_their_least_size_and_grow_again_from_there(self) -> None:
        rule = screen({**self.TABLE, "bucket_size": 4, "shrink_to": 2})
        self.teach(rule, [0.9, 0.9], self.CHAIN)
        self.teach(rule, [0.9] * 3000)
        assert rule.closed(self.CHAIN)
        assert not rule.closed("C1CCNCC1")
        self.teach(rule, [0.9], "C1CCNCC1")
        assert not rule.closed("C1CCNCC1"), "two are its least size"
        self.teach(rule, [0.1] * 70)
        assert not rule.closed(self.CHAIN), "as soon as hits are short"

    def test_a_least_size_is_met_to_the_molecule(self) -> None:
        rule = screen({**self.TABLE, "bucket_size": 25, "shrink_to": 7})
        self.teach(rule, [0.9] * 2000)
        self.teach(rule, [0.9] * 6, self.CHAIN)
        assert not rule.closed(self.CHAIN)
        self.teach(rule, [0.9], self.CHAIN)
        assert rule.closed(self.CHAIN)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"shrink_to": 1, "hit_share": None}, r"screen\.rule\[0\]\.shrink_to: .* set hit_share"),
            ({"shrink_to": 3}, r"screen\.rule\[0\]\.shrink_to: buckets begin with bucket_size = 2"),
            ({"shrink_to": 0}, r"screen\.rule\[0\]\.shrink_to"),
        ],
    )
    def test_a_least_size_that_makes_no_sense(self, changes: dict[str, Any], message: str) -> None:
        table = {key: value for key, value in {**self.TABLE, **changes}.items() if value is not None}
        with pytest.raises(ConfigError, match=message):
            check_screen({"rule": [table]})

    def test_without_it_nothing_grows(self) -> None:
        rule = self.full(hit_share=None)
        self.teach(rule, [0.1] * 500)
        assert rule.closed(self.CHAIN)
        assert "grown" not in json.dumps(rule.state_dict())

    def test_what_is_scored_while_it_is_lifted_or_fails_says_nothing(self) -> None:
        rule = self.full()
        rule.lift(["cluster"])
        self.teach(rule, [0.1] * 200)
        rule.lift([])
        self.teach(rule, [np.nan] * 200)
        assert rule.closed(self.CHAIN)

    def test_no_bucket_grows_before_one_is_full(self) -> None:
        rule = screen(self.TABLE)
        self.teach(rule, [0.1] * 1000)
        self.teach(rule, [0.9, 0.9], self.CHAIN)
        assert rule.closed(self.CHAIN)

    @pytest.mark.parametrize("changes", [{}, {"shrink_to": 1}])
    def test_it_goes_on_from_a_checkpoint(self, changes: dict[str, Any]) -> None:
        rule = self.full(**changes)
        self.teach(rule, [0.1] * 126)
        rule.learn([molecule(self.CHAIN)], np.array([0.9]), np.array([True]))
        assert rule.closed(self.CHAIN), "it has grown by too little for another"
        self.teach(rule, [0.1] * 100)
        state = json.loads(json.dumps(rule.state_dict()))
        again = screen({**self.TABLE, **changes})
        again.load_state_dict(state)
        assert rule.closed(self.CHAIN) == again.closed(self.CHAIN)
        for each in (rule, again):
            self.teach(each, [0.1] * 130)
        assert json.dumps(again.state_dict()) == json.dumps(rule.state_dict())
        assert not again.closed(self.CHAIN)

    def test_a_config_without_it_is_as_before_there_was_such_a_key(self, config: Any) -> None:
        rule = RunSettings.parse(config(screen={"rule": [{"name": "cluster"}]})).to_table()["screen"]["rule"][0]
        assert not {"hit_share", "shrink_to"} & set(rule)
