"""The tables of a run's config that stand by themselves: [replay], [genetic], [exploit] and [execution]."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from chemmara.config import Parameters
from chemmara.policies.precision import Precision
from chemmara.scoring.cluster_settings import DaskSettings


class ReplaySettings(Parameters):
    """The buffer of best molecules that are learned from again."""

    updates: int = Field(0, ge=0, le=1000, description="updates on replayed molecules after each step's own update")
    size: int = Field(256, ge=1, description="molecules kept: the best by reward, each once")
    batch_size: int = Field(64, ge=1, description="molecules a replay update")
    draw: Literal["uniform", "rank", "top", "scaffold", "cluster"] = Field(
        "uniform",
        description="which of them: uniform, top: the best; rank: weights 1/(k N + rank), with replacement; "
        "scaffold, cluster: each scaffold or cluster as likely as the next, then one of its molecules",
    )
    rank_coefficient: float = Field(0.01, gt=0, description="k of draw = rank, N the molecules in the buffer")
    with_batch: bool = Field(
        False,
        description="each replay update also holds the step's own batch: molecules spelled as the replayed ones, "
        "invalid strings at reward 0",
    )
    join: int = Field(
        0,
        ge=0,
        description="molecules of the buffer, drawn uniformly, that join the step's own update as first sampled, or in "
        "their canonical spelling with canonical = true",
    )
    only: bool = Field(False, description="no update on the sampled batch itself: it feeds the buffer alone")
    randomize: bool = Field(False, description="write each replayed molecule in a random spelling")
    canonical: bool = Field(False, description="keep and replay each molecule in its canonical spelling")
    per_scaffold: int | None = Field(None, ge=1, description="most molecules kept of one scaffold; default: no limit")
    per_cluster: int | None = Field(None, ge=1, description="most molecules kept of one cluster; default: no limit")
    similarity: float = Field(
        0.4,
        gt=0,
        lt=1,
        description="clusters: a molecule joins the first leader to which its Tanimoto similarity (ECFP4) is at least "
        "this, or else leads a cluster of its own",
    )
    purge: bool = Field(
        False,
        description="before the updates, forget molecules whose bucket of the diversity filter is full, or whose "
        "cluster the screen's rule `cluster` has closed",
    )
    seed_molecules: str | None = Field(
        None,
        description="file of known actives: scored at the start, within the budget, and put into the buffer as far as "
        "per_scaffold, per_cluster and size leave room",
    )

    @property
    def used(self) -> bool:
        """Whether anything of the buffer is learned from."""
        return self.updates > 0 or self.join > 0


class GeneticSettings(Parameters):
    """Offspring of the buffer's molecules by graph crossover and mutation, scored and put into the buffer."""

    offspring: int = Field(0, ge=0, le=10_000, description="molecules bred a generation and sent to scoring; 0: none")
    generations: int = Field(1, ge=1, le=100, description="generations a step; the second has the first among parents")
    ahead: int = Field(
        1,
        ge=1,
        le=100,
        description="where the screen looks ahead: generations bred on its forecast before the best of all of them are "
        "sent, each from the best until then",
    )
    mutation_rate: float = Field(0.01, ge=0, le=1, description="share of offspring that are mutated as well")
    population: int = Field(
        64, ge=2, description="parents drawn from the buffer by rank; breeding begins once it holds as many molecules"
    )
    max_atoms: int = Field(40, ge=5, le=200, description="heavy atoms that an offspring may have")


class ExploitSettings(Parameters):
    """When a run digs where the best was found: what keeps the search wide is lifted. The rules of the screen that are
    named here then neither refuse nor close anything, and the buffer has the best of the whole run, however many of one
    scaffold or cluster."""

    share: float = Field(
        0.0, ge=0, lt=1, description="in this last share of oracle_budget; 0: not for its being the last"
    )
    scarce: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="as long as fewer than this share of the last `window` molecules that were sampled and scored are "
        "hits; 0: not for that",
    )
    window: int = Field(256, ge=1, le=100_000, description="molecules that scarce looks back at")
    lifts: tuple[str, ...] = Field(("cluster",), description="rules that are lifted, as far as the screen has them")
    lifts_last: tuple[str, ...] = Field((), description="rules that are lifted as well in the last share")
    ahead: int = Field(1, ge=1, le=100, description="genetic.ahead while it digs, if that is more")

    @property
    def used(self) -> bool:
        """Whether a run digs at all."""
        return self.share > 0 or self.scarce > 0


class ExecutionSettings(Parameters):
    """Where and how a run computes; none of it changes which molecules are good."""

    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    precision: Precision = Field("auto", description="float32, bfloat16, or auto: bfloat16 where the processor gains")
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="CPU threads of the model, and processes that breed offspring (8 at most); default: all cores",
    )
    deterministic: bool = Field(False, description="on a GPU: only kernels that give the same result each time")
    executor: str = Field("serial", description="where expensive components run: serial, processes or dask")
    workers: int | None = Field(None, ge=1, le=4096, description="worker processes; default: one per core")
    dask: DaskSettings | None = Field(None, description="the cluster of executor = 'dask': docs/cluster.md")
    timeout: float | None = Field(None, gt=0, description="seconds a molecule and component may take in a worker")
    chunk: int = Field(
        4, ge=1, le=10_000, description="molecules per task of an expensive component; under a timeout each is a task"
    )
    checkpoint_seconds: float = Field(30.0, ge=0, description="time between checkpoints")
