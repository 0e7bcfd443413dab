"""Docking with AutoDock Vina, or a program with its command line."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from chemmara.chemistry.molecules import Molecule, inchikey
from chemmara.chemistry.protonation import RULES_VERSION, Protonation
from chemmara.config import Parameters
from chemmara.errors import ConfigError, RunError
from chemmara.scoring.arguments import (
    UNWATCHED,
    WATCHED,
    check_unwatched,
    check_watched,
    content,
    contents,
    located,
    located_files,
    to_be_written,
)
from chemmara.scoring.component import COMPONENTS, Component, file_hash, locate
from chemmara.scoring.docking.box import MAX_EDGE, Box, box_around, check_box, read_receptor
from chemmara.scoring.docking.engines import DockingFailed, Engine, ExecutableEngine, PackageEngine, Search
from chemmara.scoring.docking.ligand import (
    AFFINITY,
    ForeignPose,
    Unpreparable,
    best_model,
    check_folder,
    write_pose,
)
from chemmara.scoring.docking.preparer import Preparer
from chemmara.scoring.evaluation import Evaluation

_US = 2e6  # for each unit of exhaustiveness


class VinaParameters(Parameters):
    """Parameters of docking."""

    receptor: Path = Field(description="rigid receptor, .pdbqt or .pdbqt.gz")
    center: tuple[float, float, float] | None = Field(None, description="centre of the box: x, y, z in Å")
    size: tuple[float, float, float] | None = Field(None, description="edges of the box in Å")
    reference_ligand: Path | None = Field(
        None, description="file (.sdf, .mol, .mol2, .pdb, .pdbqt) with a bound ligand that defines the box instead"
    )
    padding: float = Field(5.0, ge=0, le=50, description="Å from the reference ligand's atoms to the faces of the box")
    exhaustiveness: int = Field(8, ge=1, le=1024, description="how hard is searched; time grows in proportion")
    scoring: Literal["vina", "vinardo"] = Field("vina", description="the scoring function")
    seed: int = Field(
        1, ge=1, le=2**31 - 1, description="seed of Vina's search and, with the molecule, of the conformer"
    )
    protonation: Protonation = Field(
        "as_written",
        description="as_written, neutral, or physiological: groups charged as in water of pH 7.4, by rules",
    )
    flexible_macrocycles: bool = Field(
        True, description="let rings of seven and more atoms open and close in the search"
    )
    timeout: float = Field(
        600.0, gt=0, description="seconds for a molecule's preparation, and for its docking; what takes longer fails"
    )
    poses: Path | None = Field(None, description="folder for the best pose of each molecule, as INCHIKEY.sdf")
    executable: str | None = Field(None, description="a program with Vina's command line, instead of the package vina")
    arguments: list[str] = Field(
        default_factory=list, description="more options for the executable; files beside the config are found"
    )
    unwatched: list[str] | None = Field(None, description=UNWATCHED)
    watched: list[Path] | None = Field(None, description=WATCHED)


@COMPONENTS.register("vina", VinaParameters)
class Vina(Component):
    """Best affinity of docking with AutoDock Vina: the lower, the better [Eberhardt et al., JCIM 2021, 61, 3891].

    One conformer (ETKDG, MMFF94), typed by meeko, is docked flexibly into the rigid receptor; stereocentres left open
    in the SMILES are chosen by the embedding. Needs the extra `docking`; docs/docking.md shows the way. The same
    settings and SMILES give the same value on one platform and version. The ligand is prepared, and Vina runs, on one
    core in a process of its own, so a crash or a hang costs one molecule; use more cores by `executor = "processes"`.
    """

    parameters: VinaParameters
    unit = "kcal/mol"
    bounds = (None, None)
    example = "{ name = 'reverse_sigmoid', low = -12, high = -6 }"
    cost_us = 8 * _US

    def __init__(self, parameters: VinaParameters, where: str) -> None:
        super().__init__(parameters, where)
        _check_programs(parameters, where)
        check_unwatched(parameters.arguments, parameters.unwatched, where)
        check_watched(parameters.watched, where)
        text, atoms = read_receptor(parameters.receptor, f"{where}.receptor")
        box = _box(parameters, where)
        check_box(box, atoms, where)
        self._search = Search(text, box, parameters.scoring, parameters.exhaustiveness, parameters.seed)
        self._prepared = Preparer(parameters.timeout, where)
        self._engine: Engine | None = None
        self._oracle = hashlib.sha256(repr(sorted(self.identity().items())).encode()).hexdigest()[:16]
        self.cost_us = _US * parameters.exhaustiveness

    @classmethod
    def resolve(cls, parameters: VinaParameters, folder: Path) -> VinaParameters:
        """Files are looked for beside the config first; poses go to a folder of the working directory."""
        updates: dict[str, Any] = {
            name: locate(value, folder)
            for name in ("receptor", "reference_ligand")
            if (value := getattr(parameters, name)) is not None
        }
        if parameters.poses is not None:
            updates["poses"] = parameters.poses.absolute()
        if parameters.executable is not None and (folder / parameters.executable).is_file():
            updates["executable"] = str((folder / parameters.executable).absolute())
        found = [located(part, parameters.unwatched, folder, Path.cwd()) for part in parameters.arguments]
        updates |= {"arguments": found, "unwatched": to_be_written(found, parameters.unwatched)}
        updates["watched"] = located_files(parameters.watched, folder)
        return parameters.model_copy(update=updates)

    def identity(self) -> dict[str, Any]:
        """Receptor and box by content, the settings, and the versions of the programs; neither poses nor time limit."""
        given = self.parameters
        search = self._search
        left_out = {
            "receptor",
            "center",
            "size",
            "reference_ligand",
            "padding",
            "timeout",
            "poses",
            "executable",
            "unwatched",
            "watched",
        }
        program = shutil.which(given.executable) if given.executable else None
        watched = {"watched": contents(given.watched)} if given.watched else {}
        rules = {"protonation_rules": RULES_VERSION} if given.protonation == "physiological" else {}
        return {
            **rules,
            **watched,
            **given.model_dump(mode="json", exclude=left_out),
            "arguments": [content(part, given.unwatched) for part in given.arguments],
            "receptor": hashlib.sha256(search.receptor.encode()).hexdigest(),
            "center": list(search.box.center),
            "size": list(search.box.size),
            "vina": file_hash(Path(program)) if program else _version("vina"),
            "meeko": _version("meeko"),
        }

    def prepare(self) -> None:
        """Load the packages and the receptor, which takes seconds."""
        self._prepared.start()
        self._running().prepare()

    def _score(self, molecules: Sequence[Molecule]) -> list[Evaluation]:
        return [self._dock(molecule) for molecule in molecules]

    def _dock(self, molecule: Molecule) -> Evaluation:
        given = self.parameters
        try:
            seed = _seed(given.seed, molecule.smiles)
            ligand, docked = self._prepared(molecule.smiles, given.protonation, seed, given.flexible_macrocycles)
            best = best_model(self._running().dock(ligand))
            if best is None:
                return Evaluation(math.nan, "the docked file holds no affinity")
            value, pose = best
            if given.poses is not None:
                self._keep(given.poses, molecule, docked, value, pose, ligand)
        except (Unpreparable, DockingFailed) as error:
            return Evaluation(math.nan, str(error))
        return Evaluation(value)

    def _keep(self, folder: Path, molecule: Molecule, docked: str, value: float, pose: str, ligand: str) -> None:
        name = inchikey(molecule.mol) or f"SMILES-{hashlib.sha256(molecule.smiles.encode()).hexdigest()[:16]}"
        properties = {
            "SMILES": molecule.smiles, "docked_SMILES": docked, AFFINITY: f"{value:.3f}",
            "receptor": self.parameters.receptor.name, "oracle": self._oracle,
        }  # fmt: skip
        try:
            write_pose(folder / f"{name}.sdf", pose, ligand, properties)
        except ForeignPose as error:
            raise RunError(f"{self.where}.poses: {error}") from None
        except OSError as error:
            reason = error.strerror or error
            raise RunError(f"{self.where}.poses: a pose cannot be written to '{folder}': {reason}") from None

    def _running(self) -> Engine:
        given = self.parameters
        if self._engine is None and given.poses is not None:
            try:  # before anything is docked for nothing
                check_folder(given.poses, self._oracle)
            except ForeignPose as error:
                raise ConfigError(f"{self.where}.poses: {error}") from None
        if self._engine is None and given.executable is not None:
            self._engine = ExecutableEngine(given.executable, given.arguments, self._search, given.timeout, self.where)
        if self._engine is None:
            self._engine = PackageEngine(self._search, given.timeout, self.where)
        return self._engine


def _seed(seed: int, smiles: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {smiles}".encode()).digest()[:4], "big")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _check_programs(parameters: VinaParameters, where: str) -> None:
    wanted = ["meeko", "gemmi"]
    if parameters.executable is None:
        wanted.insert(0, "vina")
        if parameters.arguments:
            raise ConfigError(f"{where}.arguments: options are for an executable; name one, or leave them out")
    elif shutil.which(parameters.executable) is None:
        what = "is not executable" if Path(parameters.executable).is_file() else "is no program that can be found"
        raise ConfigError(f"{where}.executable: '{parameters.executable}' {what}")
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{where}: docking needs {' and '.join(missing)}; in the clone, run: "
            "pip install -c constraints.txt '.[docking]'"
        )


def _box(parameters: VinaParameters, where: str) -> Box:
    center, size, ligand = parameters.center, parameters.size, parameters.reference_ligand
    if ligand is not None:
        if center is not None or size is not None:
            raise ConfigError(f"{where}: give either center and size, or reference_ligand")
        return box_around(ligand, parameters.padding, f"{where}.reference_ligand")
    if center is None or size is None:
        raise ConfigError(f"{where}: the box is missing; give center and size, or a reference_ligand")
    if not all(0 < edge <= MAX_EDGE for edge in size):
        raise ConfigError(f"{where}.size: edges should be above 0 and at most {MAX_EDGE:g} Å (got {list(size)})")
    return Box(center, size)
