"""Crossover and mutation: sound molecules, from the generator alone, made of what the parents have."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chemmara.chemistry.genetics import breed, crossover, mutate
from chemmara.chemistry.molecules import Molecule, parse_smarts, quiet, read
from chemmara.chemistry.mutations import MUTATIONS, Mutation

TEXTS = [
    "CC(=O)Oc1ccccc1C(=O)O", "Cn1cnc2c1c(=O)n(C)c(=O)n2C", "C[C@H](N)C(=O)N1CCC[C@H]1C(=O)O", "C/C=C/c1ccc(O)c(OC)c1",
    "CC1(C)SC2C(NC(=O)Cc3ccccc3)C(=O)N2C1C(=O)O", "COc1ccc2[nH]cc(CCN(C)C)c2c1", "O=C([O-])C[N+](C)(C)C",
    "Cc1ccc(-c2cc(C(F)(F)F)nn2-c2ccc(S(N)(=O)=O)cc2)cc1", "CC1(C)C2CCC1(C)C(=O)C2", "C1CCCCCC1N", "CC#CCO", "C",
]  # fmt: skip
PARENTS = [molecule for text in TEXTS if (molecule := read(text).molecule)]
parents, seeds = st.sampled_from(PARENTS), st.integers(0, 2**32 - 1)


def check(child: Molecule, *of: Molecule) -> None:
    assert read(child.smiles).molecule == child, "its SMILES is canonical and can be read"
    assert "." not in child.smiles
    assert "*" not in child.smiles
    assert 5 <= child.mol.GetNumAtoms() <= 40
    rings = [len(ring) for parent in of for ring in parent.mol.GetRingInfo().AtomRings()]
    assert all(len(ring) <= max([6, *rings]) for ring in child.mol.GetRingInfo().AtomRings())
    assert not any(atom.GetNumRadicalElectrons() for atom in child.mol.GetAtoms())


@settings(max_examples=60)
@given(mother=parents, father=parents, seed=seeds)
def test_offspring_are_sound_and_depend_on_the_generator_alone(mother: Molecule, father: Molecule, seed: int) -> None:
    random.seed(seed + 1)
    child = breed(mother, father, 0.5, np.random.default_rng(seed))
    random.seed(seed + 2)
    assert breed(mother, father, 0.5, np.random.default_rng(seed)) == child
    if child is not None:
        check(child, mother, father)


@settings(max_examples=60)
@given(molecule=parents, seed=seeds)
def test_mutants_are_sound_and_near(molecule: Molecule, seed: int) -> None:
    mutant = mutate(molecule, np.random.default_rng(seed))
    if mutant is not None:
        check(mutant, molecule)
        assert mutant != molecule
        assert abs(mutant.mol.GetNumAtoms() - molecule.mol.GetNumAtoms()) <= 1


def test_a_crossover_adds_no_atom_that_no_parent_has() -> None:
    mother, father = PARENTS[0], PARENTS[7]
    rng = np.random.default_rng(0)
    children = [child for _ in range(60) if (child := crossover(mother, father, rng))]
    assert len({child.smiles for child in children}) > 30, "nearly always something comes out, each time another"
    for child in children:
        check(child, mother, father)
        assert child not in (mother, father)
        elements = {atom.GetSymbol() for atom in child.mol.GetAtoms()}
        assert elements <= {"C", "O", "N", "S", "F"}
        assert child.mol.GetNumAtoms() < mother.mol.GetNumAtoms() + father.mol.GetNumAtoms()
    sulfonamide, acetyl = (parse_smarts(text, "test") for text in ("S(N)(=O)=O", "CC(=O)Oc"))
    both = [c for c in children if c.mol.HasSubstructMatch(sulfonamide) and c.mol.HasSubstructMatch(acetyl)]
    assert both, "a piece of each"
    assert any(child.mol.GetRingInfo().NumRings() == 3 for child in children)


def test_both_kinds_of_cut_are_made() -> None:
    camphor, cyclohexane = PARENTS[8], read("C1CCCCC1C").molecule
    assert cyclohexane
    rng = np.random.default_rng(0)
    children = [child for _ in range(40) if (child := crossover(camphor, cyclohexane, rng))]
    fused = [c for c in children if c.mol.GetRingInfo().NumRings() not in (1, 2, 3)]
    assert not fused
    assert any(c.mol.GetRingInfo().NumRings() == 3 for c in children), "a chain cut joins whole rings"
    assert any(c.mol.GetRingInfo().NumRings() == 1 and c.mol.GetNumAtoms() >= 8 for c in children), "rings were cut"


def test_the_largest_size_is_kept() -> None:
    rng = np.random.default_rng(0)
    children = [child for _ in range(40) if (child := crossover(PARENTS[4], PARENTS[7], rng, most_atoms=12))]
    assert children
    assert all(child.mol.GetNumAtoms() <= 12 for child in children)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_each_mutation_makes_sound_molecules(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chemmara.chemistry.genetics.MUTATIONS", [mutation])
    rng = np.random.default_rng(0)
    made = [mutant for molecule in PARENTS for _ in range(5) if (mutant := mutate(molecule, rng))]
    assert len({mutant.smiles for mutant in made}) > 15


def test_nothing_is_written_to_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for mother in PARENTS:
        breed(mother, PARENTS[0], 1.0, rng)
    assert "valence" not in capfd.readouterr().err


def test_methane_has_no_offspring() -> None:
    methane = PARENTS[-1]
    with quiet():
        assert breed(methane, methane, 1.0, np.random.default_rng(0)) is None
