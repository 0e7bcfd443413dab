"""What a config can say of Dask: a running scheduler, jobs of SLURM, or neither for a cluster in this process."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from chemmara.config import Parameters
from chemmara.errors import ConfigError, UserError


class SlurmSettings(Parameters):
    """``[execution.dask.slurm]``: workers as jobs of SLURM, through dask-jobqueue. What is not given is SLURM's own
    default, or that of dask-jobqueue's configuration file."""

    jobs: int = Field(ge=1, le=10_000, description="jobs that are kept in the queue or running; a lost one is replaced")
    cores: int = Field(1, ge=1, le=1024, description="cores of a job, each with a scoring process of its own")
    memory: str = Field(description="memory of a job, for all its processes together, such as '16GB'")
    walltime: str | None = Field(None, description="longest time of a job, such as '08:00:00'")
    queue: str | None = Field(None, description="partition")
    account: str | None = Field(None, description="account that is charged")
    interface: str | None = Field(None, description="network interface that nodes and this machine share, such as ib0")
    directives: list[str] = Field(
        default_factory=list, description="further lines for sbatch, such as '--constraint=ib'"
    )
    prologue: list[str] = Field(default_factory=list, description="shell lines before the worker, such as module loads")
    worker_arguments: list[str] = Field(default_factory=list, description="further arguments of the Dask worker")
    python: str | None = Field(None, description="Python on the nodes; default: the one that runs this")
    log_directory: Path | None = Field(None, description="where the jobs write what they print; default: SLURM's")

    @field_validator("memory")
    @classmethod
    def _bytes(cls, text: str) -> str:
        if not re.fullmatch(r"\s*\d+(\.\d+)?(e\d+)?\s*([kmgtp]i?)?b?\s*", text, re.IGNORECASE):
            raise ValueError("should be a size such as '16GB'")
        return text

    @field_validator("walltime")
    @classmethod
    def _time(cls, text: str | None) -> str | None:
        if text is not None and not re.fullmatch(r"(\d+-)?\d+(:\d{1,2}){0,2}", text.strip()):
            raise ValueError("should be a time as SLURM has it, such as '08:00:00' or '2-00:00:00'")
        return text


class DaskSettings(Parameters):
    """``[execution.dask]``: which cluster the executor ``dask`` uses. An empty table means one in this process."""

    scheduler: str | None = Field(None, description="address of a running scheduler, such as tcp://node1:8786")
    scheduler_file: Path | None = Field(None, description="file in which a running scheduler wrote its address")
    slurm: SlurmSettings | None = Field(None, description="jobs of SLURM, started by this run and ended with it")
    wait_seconds: float = Field(
        3600.0, gt=0, description="time without any worker, in the queue for example, after which the run stops"
    )

    @model_validator(mode="after")
    def _one_cluster(self) -> Self:
        given = [name for name in ("scheduler", "scheduler_file", "slurm") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: choose one cluster")
        return self


class DaskParameters(DaskSettings):
    """All that the executor takes."""

    workers: int | None = Field(
        None, ge=1, le=4096, description="workers of a cluster in this process; default: one per available core"
    )
    timeout: float | None = Field(
        None, gt=0, description="seconds per molecule and component; what takes longer fails. Default: no limit"
    )

    @model_validator(mode="after")
    def _workers_are_the_clusters_own(self) -> Self:
        named = next((name for name in ("scheduler", "scheduler_file", "slurm") if getattr(self, name) is not None), "")
        if named and self.workers is not None:
            raise ValueError(f"workers is for a cluster in this process; dask.{named} has its own number of them")
        return self


def check_installed(settings: DaskSettings | None) -> None:
    """Raise ConfigError where the packages are missing that the executor needs."""
    needed = ["distributed", *(["dask_jobqueue"] if settings is not None and settings.slurm is not None else [])]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"execution.executor: 'dask' needs {' and '.join(missing).replace('_', '-')}; "
            "in the clone, run: pip install -c constraints.txt '.[distributed]'"
        )


def check_reachable(settings: DaskSettings) -> None:
    """Raise UserError where the cluster cannot be had from this machine now. A config may be right all the same."""
    if settings.slurm is not None and shutil.which("sbatch") is None:
        raise UserError("execution.dask.slurm: there is no sbatch here; start this on a node that submits jobs")
    file = settings.scheduler_file
    if file is not None and not file.is_file():
        raise UserError(f"execution.dask.scheduler_file: file '{file}' does not exist; is the scheduler running?")
