"""One run: from a resolved config to a run directory, begun, resumed or found finished."""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch

from chemmara.config import merge
from chemmara.errors import RunError, UserError
from chemmara.interrupts import Interrupts
from chemmara.language.vocabulary import Vocabulary
from chemmara.optimization.directory import METRICS, RunDirectory, now, versions
from chemmara.optimization.files import hashes
from chemmara.optimization.goal import score_record
from chemmara.optimization.learner import Learner, Steps
from chemmara.optimization.metrics_file import MetricsFile
from chemmara.optimization.notices import CutNotice
from chemmara.optimization.screening import files_of
from chemmara.optimization.seeds import read_seeds
from chemmara.optimization.settings import RunSettings
from chemmara.optimization.watcher import Watcher
from chemmara.policies.begun import given
from chemmara.policies.catalog import WEIGHTS
from chemmara.policies.checkpoints import AtomicCheckpointIO, TimedCheckpoint, quiet_lightning, read_checkpoint
from chemmara.policies.device import pick_device
from chemmara.policies.precision import Resolved, resolve
from chemmara.policies.starts import likeliest_starts
from chemmara.policies.storage import load_policy, save_policy
from chemmara.reporting.export import write_molecules
from chemmara.reporting.report import write_report
from chemmara.scoring.component import file_hash
from chemmara.scoring.evaluation import Executor
from chemmara.scoring.function import ScoringFunction
from chemmara.scoring.ledger import Ledger, RunRow

SEEDS_HASH = "seed_molecules_sha256"


def optimize_one(
    settings: RunSettings,
    directory: RunDirectory,
    ledger: Ledger,
    executor: Executor | None,
    *,
    resume: bool = False,
    retry_failed: bool = False,
    watcher: Watcher | None = None,
    interrupts: Interrupts | None = None,
) -> None:
    """Run one method with one seed to its end, writing DESIGN.md's run directory.

    With ``resume`` a finished run is left as it is, unless the config now gives it a larger budget or more steps; then
    it goes on from its checkpoint, as a stopped one does, and a missing or half-made one starts afresh.
    ``retry_failed`` starts the count of failures anew. Raises :class:`UserError` if the directory holds a run and
    ``resume`` is off, or the run had another config; :class:`RunError` if it has to stop;
    :class:`chemmara.interrupts.Interrupted` on Ctrl-C.
    """
    watcher = watcher or Watcher()
    table = settings.to_table()
    if directory.begun and not resume:
        raise UserError(f"'{directory.path}' holds a run already; go on with --resume, or choose another directory")
    directory.check_same_config(settings, mended=retry_failed)
    if directory.finished and not directory.goes_on(table):
        watcher.say(f"{directory.key} is finished: nothing to do")
        return
    directory.check_not_shorter(table)
    if directory.finished and not directory.checkpoint.is_file():
        raise UserError(f"'{directory.path}' cannot go on: its checkpoint is gone; choose another directory")
    with torch_settings(settings):
        _run(settings, directory, ledger, executor, table, watcher, interrupts or Interrupts(), retry_failed)


def _run(
    settings: RunSettings,
    directory: RunDirectory,
    ledger: Ledger,
    executor: Executor | None,
    table: dict[str, Any],
    watcher: Watcher,
    interrupts: Interrupts,
    retry_failed: bool,
) -> None:
    head = settings.head
    device = pick_device(head.execution.device)
    prior, agent = load_policy(settings.prior, device), load_policy(settings.agent, device)
    longest = settings.agent.header().get("history", {}).get("max_sequence_length")  # of an imported prior
    checkpoint = read_checkpoint(directory.checkpoint) if directory.checkpoint.is_file() else None
    reached = json.loads(checkpoint["chemmara"])["step"] if checkpoint else -1
    precision = resolve(head.execution.precision, device)
    if checkpoint:
        precision = _go_on_as_begun(settings, directory, precision)
    prior.precision = agent.precision = precision
    begun = directory.manifest() if checkpoint else {}
    starts = begun.get("starts") or (likeliest_starts(prior, head.scaffold, head.max_tokens) if head.scaffold else [])
    seeds, notes = _seeds(settings, given(agent, starts).vocabulary)
    manifest = {**_manifest(settings, directory, device, table), "precision": precision}
    if starts:
        manifest["starts"] = starts
    if settings.seed_molecules:
        manifest[SEEDS_HASH] = file_hash(settings.seed_molecules)
        if checkpoint and begun.get(SEEDS_HASH, manifest[SEEDS_HASH]) != manifest[SEEDS_HASH]:
            notes = ["the seed molecules were scored when the run began; their file has changed since, and what is new "
                     "in it is left out"]  # fmt: skip
    if checkpoint:
        manifest |= _of_the_beginning(begun, manifest)
    if checkpoint:
        _check_rows(directory, ledger, reached)
    # With these written down, config.toml gives the same molecules on a machine with other cores.
    directory.write_config(merge(table, {"execution": {"threads": torch.get_num_threads(), "precision": precision}}))
    directory.write_manifest(manifest)
    ledger.truncate(directory.key, after_step=reached)
    metrics_file = MetricsFile(directory.path / METRICS, keep_up_to=reached)
    watcher.start(directory, settings)
    if starts:
        watcher.say(f"upon {head.scaffold}: every sequence begins with {', '.join(starts)}")
    for note in notes:
        watcher.say(note)

    cut = CutNotice(head.max_tokens, watcher)

    def write_step(step: int, rows: Sequence[RunRow], metrics: dict[str, float]) -> None:
        ledger.write_step(directory.key, step, rows)
        cut.look(step, rows)
        if metrics:
            metrics_file.append(metrics)
            watcher.step(metrics)

    scoring = ScoringFunction(
        settings.scoring,
        executor=executor,
        store=ledger,
        chunk=head.execution.chunk,
        retry=head.failure.retry,
        on_failure=head.failure.on_failure,
    )
    learner = Learner(settings, agent, prior, scoring, write_step, seeds, retry_failed, starts)
    saver = RunCheckpoint(directory.path / "checkpoints", head.execution.checkpoint_seconds, interrupts)
    with quiet_lightning():
        # A run that had ended has its epoch behind it: going on, it has one more.
        trainer = _trainer(device, saver, epochs=1 + (checkpoint["epoch"] if checkpoint else 0))
        try:
            trainer.fit(
                learner, Steps(learner), ckpt_path=str(directory.checkpoint) if checkpoint else None, weights_only=True
            )
        finally:  # the next run of this process may need the memory before this one's is collected
            learner.breeders.close()
            for policy in (prior, agent):
                policy.release()
    _finish(settings, directory, ledger, learner, manifest, longest)
    watcher.end(learner.stop_reason)


def _seeds(settings: RunSettings, vocabulary: Vocabulary) -> tuple[list[str], list[str]]:
    return read_seeds(settings.seed_molecules, vocabulary) if settings.seed_molecules else ([], [])


def _of_the_beginning(begun: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What a manifest keeps of an earlier one when the run goes on from its checkpoint."""
    kept: dict[str, Any] = {}
    for key in ("agent_sha256", SEEDS_HASH):  # whatever has become of those files: what they gave is in the checkpoint
        if key in begun:
            kept[key] = begun[key]
    before = list(begun.get("score_before", []))
    if begun.get("score", now["score"]) != now["score"]:  # mended, as its user says
        before.append(begun["score"])
    return {**kept, "score_before": before} if before else kept


def _check_rows(directory: RunDirectory, ledger: Ledger, reached: int) -> None:
    """Raise :class:`UserError` for a ledger without the steps that the checkpoint comes after: molecules.csv, which is
    written from it, would lose them."""
    last = ledger.run_info(directory.key).last_step
    if last < reached:
        held = f"its rows end with step {last}" if last >= 0 else "it has no rows of it"
        raise UserError(
            f"'{directory.path}' has come to step {reached}, but {held} in '{ledger.path}'; put the run's own ledger "
            "back (chemmara ledger merge takes the rows of another one in), or choose another directory"
        )


def _go_on_as_begun(settings: RunSettings, directory: RunDirectory, precision: Resolved) -> Resolved:
    """Take the threads and the precision of the run's beginning, and refuse another prior or other contents of
    the files that the config's tables name: each gives other molecules.

    Returns the precision to go on with; a run from before it was written down was float32.
    """
    begun = directory.manifest()
    if not begun:
        raise UserError(
            f"'{directory.path / 'manifest.json'}' is missing or damaged: it says what the run was begun with; put it "
            "back, or choose another directory"
        )
    if begun.get("prior_sha256") != settings.prior.sha256():
        raise UserError(
            f"'{directory.path}' was begun with another prior than '{settings.prior.path}' now holds; "
            f"put that file back, or choose another directory"
        )
    before = {**begun.get("screen_files", {}), **begun.get("table_files", {})}
    for place, digest in hashes(settings.files()).items():
        if before.get(place, digest) != digest:
            raise UserError(
                f"'{directory.path}' was begun with another content of the file that {place} names; put it back, or "
                "choose another directory"
            )
    if settings.head.execution.threads is None and isinstance(begun.get("threads"), int):
        torch.set_num_threads(begun["threads"])
    if settings.head.execution.precision != "auto":
        return precision
    return "bfloat16" if begun.get("precision") == "bfloat16" else "float32"


class RunCheckpoint(TimedCheckpoint):
    """Lightning counts the optimiser's steps; a run's state changes with its own."""

    def step_id(self, trainer: pl.Trainer) -> int:
        return int(trainer.lightning_module.step_number)  # type: ignore[arg-type]


def _trainer(device: torch.device, saver: RunCheckpoint, epochs: int) -> pl.Trainer:
    on_gpu = device.type == "cuda"
    return pl.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=[device.index or 0] if on_gpu else 1,
        max_epochs=epochs,
        min_epochs=0,
        callbacks=[saver],
        plugins=[AtomicCheckpointIO()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def _finish(
    settings: RunSettings,
    directory: RunDirectory,
    ledger: Ledger,
    learner: Learner,
    manifest: dict[str, Any],
    longest: int | None,
) -> None:
    try:
        history = {"run": directory.key, "steps": learner.step_number, "oracle_calls": learner.seen.calls}
        weights = directory.path / "agent" / WEIGHTS
        save_policy(learner.agent, weights, history=history | ({"max_sequence_length": longest} if longest else {}))
        labels = list(settings.scoring.labels)
        write_molecules(
            ledger, directory.key, directory.path / "molecules.csv", directory.method, directory.seed, labels
        )
        if learner.screen:
            manifest = {**manifest, "refused": dict(learner.screen.refused)}
            directory.write_manifest(manifest)
        manifest |= {"end": now(), "stop_reason": learner.stop_reason, "hits": learner.seen.hits, **history}
        if learner.seed_hits:
            manifest["seed_hits"] = learner.seed_hits
        # The manifest's end is the mark of a finished run, so it comes after everything that a finished run holds.
        write_report(directory.path, manifest=manifest)
        directory.write_manifest(manifest)
    except OSError as error:
        raise RunError(f"'{directory.path}' could not be written: {error.strerror}; go on with --resume") from None


def _manifest(
    settings: RunSettings, directory: RunDirectory, device: torch.device, table: dict[str, Any]
) -> dict[str, Any]:
    return {
        "method": directory.method,
        "seed": directory.seed,
        "labels": list(settings.scoring.labels),
        "units": [component.unit for component in settings.scoring.components],
        "score": score_record(settings.scoring),
        "threshold": settings.head.threshold,
        "oracle_budget": settings.head.oracle_budget,
        "objective": settings.objective[0].name,
        "augmentation": settings.augmentation_name,
        "prior": settings.head.prior,
        "prior_sha256": settings.prior.sha256(),
        "agent": settings.head.agent,
        "agent_sha256": settings.agent.sha256(),
        "screen_files": hashes(files_of(settings.screen)),
        "table_files": hashes(settings.files_of_tables()),
        "config_sha256": hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest(),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "command": " ".join(sys.argv),
        "start": directory.manifest().get("start") or now(),
        "end": None,
    }


@contextmanager
def torch_settings(settings: RunSettings) -> Iterator[None]:
    """Threads and determinism as the config has them, put back afterwards."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    execution = settings.head.execution
    try:
        if execution.threads:
            torch.set_num_threads(execution.threads)
        if execution.deterministic:
            torch.use_deterministic_algorithms(True, warn_only=True)
        with warnings.catch_warnings():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
