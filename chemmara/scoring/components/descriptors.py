"""Physical and topological descriptors, one RDKit call each.

>>> from chemmara.chemistry.molecules import read
>>> paracetamol = read("CC(=O)Nc1ccc(O)cc1").molecule
>>> from chemmara.scoring.component import COMPONENTS
>>> weight = COMPONENTS["molecular_weight"].item(None, "")
>>> round(weight([paracetamol])[0].value, 2)  # PubChem CID 1983: 151.16 g/mol
151.16
>>> round(weight([read("C" * 40).molecule])[0].value, 1)  # tetracontane, far outside drug-like space
563.1
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chemmara.lazy import lazy
from chemmara.scoring.component import COMPONENTS, PerMolecule

if TYPE_CHECKING:
    from rdkit import Chem
    from rdkit.Chem import rdMolDescriptors
else:
    Chem = lazy("rdkit.Chem")
    rdMolDescriptors = lazy("rdkit.Chem.rdMolDescriptors")


@dataclass(frozen=True)
class Descriptor:
    """One number of a molecule: its RDKit function, and what a component tells about it."""

    function: Callable[[Chem.Mol], float]
    summary: str
    unit: str
    high: float | None = None
    low: float | None = 0.0
    cost_us: float = 10.0
    example: str = ""


def _of_rdkit(name: str) -> Callable[[Chem.Mol], float]:
    """rdMolDescriptors' function of that name, looked up when it is first called."""
    return lambda mol: getattr(rdMolDescriptors, name)(mol)


def _qed(mol: Chem.Mol) -> float:
    from rdkit.Chem import QED  # slow to import

    return float(QED.qed(mol))  # type: ignore[no-untyped-call]


def _bertz_ct(mol: Chem.Mol) -> float:
    from rdkit.Chem import GraphDescriptors  # slow to import

    return float(GraphDescriptors.BertzCT(mol))  # type: ignore[no-untyped-call]


def _stereocentres(mol: Chem.Mol) -> int:
    find: Any = Chem.FindMolChiralCenters
    return len(find(mol, includeUnassigned=True, useLegacyImplementation=False))


def _stereo_bonds(mol: Chem.Mol) -> int:
    kinds = Chem.FindPotentialStereo(mol)
    return sum(found.type == Chem.StereoType.Bond_Double for found in kinds)


DESCRIPTORS: dict[str, Descriptor] = {
    "qed": Descriptor(
        _qed,
        "Quantitative estimate of drug-likeness, weighted mean [Bickerton et al., Nat. Chem. 2012, 4, 90]",
        "",
        high=1.0,
        cost_us=860,
    ),
    "molecular_weight": Descriptor(
        _of_rdkit("_CalcMolWt"),
        "Average molecular weight, hydrogens included",
        "g/mol",
        example="{ name = 'double_sigmoid', low = 200, high = 500 }",
    ),
    "logp": Descriptor(
        lambda mol: rdMolDescriptors.CalcCrippenDescriptors(mol)[0],
        "Octanol-water partition coefficient, additive atom model [Wildman and Crippen, JCICS 1999, 39, 868]",
        "log10 units",
        low=None,
        cost_us=210,
        example="{ name = 'double_sigmoid', low = 1, high = 4, coef_div = 3, coef_si = 5, coef_se = 5 }",
    ),
    "tpsa": Descriptor(
        _of_rdkit("CalcTPSA"),
        "Topological polar surface area, N and O only [Ertl et al., J. Med. Chem. 2000, 43, 3714]",
        "Å^2",
        example="{ name = 'double_sigmoid', low = 40, high = 120 }",
    ),
    "hbd": Descriptor(_of_rdkit("CalcNumHBD"), "Hydrogen-bond donors, RDKit's Lipinski pattern", "count"),
    "hba": Descriptor(_of_rdkit("CalcNumHBA"), "Hydrogen-bond acceptors, RDKit's Lipinski pattern", "count"),
    "rotatable_bonds": Descriptor(
        _of_rdkit("CalcNumRotatableBonds"),
        "Rotatable bonds, RDKit's strict definition (no amides)",
        "count",
        cost_us=20,
    ),
    "rings": Descriptor(_of_rdkit("CalcNumRings"), "Rings in the smallest set of smallest rings", "count"),
    "aromatic_rings": Descriptor(_of_rdkit("CalcNumAromaticRings"), "Aromatic rings", "count"),
    "fraction_csp3": Descriptor(
        _of_rdkit("CalcFractionCSP3"), "Share of the carbons that are sp3 (0 without carbon)", "", high=1.0
    ),
    "stereocentres": Descriptor(
        _stereocentres,
        "Tetrahedral stereocentres, assigned or not, bridgehead nitrogens included",
        "count",
        cost_us=100,
    ),
    "unassigned_stereocentres": Descriptor(
        _of_rdkit("CalcNumUnspecifiedAtomStereoCenters"),
        "Tetrahedral stereocentres that the SMILES leaves open",
        "count",
        cost_us=60,
        example="{ name = 'left_step', low = 0 }",
    ),
    "stereo_bonds": Descriptor(_stereo_bonds, "Double bonds that are E or Z, assigned or not", "count", cost_us=60),
    "formal_charge": Descriptor(
        lambda mol: Chem.GetFormalCharge(mol),
        "Net formal charge, as the SMILES is written",
        "e",
        low=None,
        example="{ name = 'step', low = 0, high = 0 }",
    ),
    "charged_atoms": Descriptor(
        lambda mol: sum(atom.GetFormalCharge() != 0 for atom in mol.GetAtoms()),
        "Atoms with a formal charge, those of nitro groups included",
        "count",
        cost_us=15,
    ),
    "heteroatoms": Descriptor(_of_rdkit("CalcNumHeteroatoms"), "Atoms other than carbon and hydrogen", "count"),
    "spiro_atoms": Descriptor(_of_rdkit("CalcNumSpiroAtoms"), "Atoms that are all that two rings share", "count"),
    "bridgehead_atoms": Descriptor(
        _of_rdkit("CalcNumBridgeheadAtoms"), "Atoms where bridges of bicyclic ring systems meet", "count"
    ),
    "largest_ring": Descriptor(
        lambda mol: max(map(len, mol.GetRingInfo().AtomRings()), default=0),
        "Size of the largest ring in the smallest set of smallest rings, 0 without a ring",
        "atoms",
        example="{ name = 'left_step', low = 7 }",
    ),
    "molar_refractivity": Descriptor(
        lambda mol: rdMolDescriptors.CalcCrippenDescriptors(mol)[1],
        "Molar refractivity, additive atom model [Wildman and Crippen, JCICS 1999, 39, 868]",
        "cm^3/mol",
        low=None,
        cost_us=210,
        example="{ name = 'double_sigmoid', low = 40, high = 130 }",
    ),
    "bertz_ct": Descriptor(
        _bertz_ct,
        "Topological complexity of bonds and heteroatoms [Bertz, J. Am. Chem. Soc. 1981, 103, 3599]",
        "",
        cost_us=500,
        example="{ name = 'gaussian', mean = 700, sd = 200, plateau = 'below' }",
    ),
    "heavy_atoms": Descriptor(
        lambda mol: mol.GetNumHeavyAtoms(),
        "Atoms other than hydrogen",
        "count",
        example="{ name = 'step', low = 15, high = 35 }",
    ),
}


def _register(name: str, descriptor: Descriptor) -> None:
    def value(self: PerMolecule, mol: Chem.Mol) -> float:
        return float(descriptor.function(mol))

    attributes = {
        "__doc__": f"{descriptor.summary}.",
        "__module__": __name__,
        "unit": descriptor.unit,
        "bounds": (descriptor.low, descriptor.high),
        "cost_us": descriptor.cost_us,
        "example": descriptor.example or "{ name = 'step', low = 0, high = 5 }",
        "_value": value,
    }
    COMPONENTS.register(name)(type(name.title().replace("_", ""), (PerMolecule,), attributes))


for _name, _descriptor in DESCRIPTORS.items():
    _register(_name, _descriptor)
