"""One training directory: corpus, checkpoints, table of epochs, and in the end the prior with its model card."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from chemmara.chemistry.files import read_records
from chemmara.chemistry.molecules import read
from chemmara.errors import UserError
from chemmara.interrupts import Interrupts
from chemmara.language.batches import TokenBatches
from chemmara.language.corpus import HELD_OUT, Corpus, CorpusWriter
from chemmara.language.intake import AllHeldOut, Refusals, prepare
from chemmara.places import check_directory, write_whole
from chemmara.policies.catalog import CARD, WEIGHTS, find_prior
from chemmara.policies.checkpoints import LAST, AtomicCheckpointIO, TimedCheckpoint, quiet_lightning
from chemmara.policies.policy import POLICIES, expand_size
from chemmara.policies.storage import load_policy, save_policy
from chemmara.training.card import model_card
from chemmara.training.epochs import EpochTable, ProgressLine, Say
from chemmara.training.likelihood import MAY_CHANGE, LikelihoodModule
from chemmara.training.settings import TrainSettings
from chemmara.training.stopping import EarlyStop
from chemmara.wording import counted

MADE_FROM = "made_from.json"
LARGER_SHARES = (0.1, 0.2, 0.35, 0.5)  # tried in turn where the share asked for holds out no molecule


def train(
    files: Sequence[str | Path],
    out: str | Path,
    settings: TrainSettings,
    *,
    validation: str | Path | None = None,
    resume: bool = False,
    say: Say = print,
    progress: bool = True,
    command: str = "",
) -> Path:
    """Fit a prior to files of molecules in ``out``; returns the path of its weights.

    Raises :class:`UserError` for bad input or a directory that holds a training already (without ``resume``). A
    finished training is left as it is.
    """
    out = Path(out)
    weights = out / WEIGHTS
    if _follower(settings):
        return _follow(files, out, settings, validation)
    if weights.is_file() and resume:
        _check_finished(files, out, settings, validation)
        say(
            f"{out} is finished{_more_epochs(out, settings)}: nothing to do; to train on from it: "
            f"{settings.further.format(out=shlex.quote(str(out)))}"
        )
        return weights
    if (weights.is_file() or (out / "checkpoints").exists()) and not resume:
        raise UserError(f"'{out}' holds a training already; go on with --resume, or choose another directory")
    check_directory(out)
    settings = _inherit(settings)
    POLICIES.build_parameters(settings.policy, "policy")
    corpus, held_out = _corpora(files, out, settings, validation, say)
    policy, row = _train(corpus, held_out, out, settings, say, progress)
    history = {"files": [Path(f).name for f in files], "molecules": len(corpus), "command": command}
    history |= {"settings": settings.model_dump(mode="json"), **row}
    history = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in history.items()}  # JSON has no NaN
    write_whole(out / CARD, model_card(policy, history))
    save_policy(policy.float(), weights, half=True, history=history)
    say(f"prior written to {weights}")
    return weights


def _check_finished(
    files: Sequence[str | Path], out: Path, settings: TrainSettings, validation: str | Path | None
) -> None:
    """Raise :class:`UserError` where the finished training in ``out`` is not the one that is asked for."""
    settings = _inherit(settings)
    made = out / "corpus" / MADE_FROM
    there = all(Path(f).is_file() for f in (*files, *([validation] if validation else [])))
    if there and made.is_file() and json.loads(made.read_text()) != _source(files, settings, validation):
        raise UserError(f"'{out}' holds a training on other files or settings; choose another directory")
    before = find_prior(out).header()["history"].get("settings", {})
    now = settings.model_dump(mode="json")
    for name, was in before.items():
        if name not in MAY_CHANGE and name in now and now[name] != was:
            raise UserError(f"'{out}' holds a training with {name} = {was}, not {now[name]}; choose another directory")


def _more_epochs(out: Path, settings: TrainSettings) -> str:
    """Why more epochs than a finished training had are not added to it; '' where no more are asked for."""
    done = find_prior(out).header()["history"].get("settings", {}).get("epochs", settings.epochs)
    if settings.epochs <= done:
        return ""
    return f", {counted(done, 'epoch')} and not {settings.epochs}, over which its learning rate has fallen to its end"


def _train(
    corpus: Corpus, held_out: Corpus, out: Path, settings: TrainSettings, say: Say, progress: bool
) -> tuple[Any, dict[str, Any]]:
    """The fitted policy and the row of the epoch that its weights are of."""
    entry, parameters = POLICIES.build_parameters(settings.policy, "policy")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        policy = entry.item(corpus.vocabulary, parameters)
        if settings.initial:
            policy.load_state_dict(load_policy(settings.initial).state_dict())
        policy.precision = settings.precision
        table = EpochTable(out, corpus, held_out, settings, say)
        stop = EarlyStop(table)
        _fit(policy, out, table, stop, progress)
    return policy, stop.restore(policy)


def _follower(settings: TrainSettings) -> bool:
    """Whether Lightning started this process beside the first, which says everything and writes every file."""
    return settings.devices > 1 and int(os.environ.get("LOCAL_RANK", "0")) > 0


def _follow(files: Sequence[str | Path], out: Path, settings: TrainSettings, validation: str | Path | None) -> Path:
    def silent(_: str) -> None: ...

    settings = _inherit(settings)
    corpus, held_out = _corpora(files, out, settings, validation, silent)
    _train(corpus, held_out, out, settings, silent, progress=False)
    return out / WEIGHTS


def _inherit(settings: TrainSettings) -> TrainSettings:
    """With a prior to begin from, its architecture and tokenizer; what changes no weight, as dropout, may differ."""
    if not settings.initial:
        return settings.model_copy(update={"policy": expand_size(settings.policy)})
    prior = find_prior(settings.initial)
    header = prior.header()
    own = {"name": header["architecture"], **header["parameters"]}
    policy = own | settings.policy
    if "tokenizer" in settings.model_fields_set and settings.tokenizer != header["tokenizer"]:
        own, other = header["tokenizer"], settings.tokenizer
        raise UserError(f"prior '{settings.initial}' writes {own}; training cannot change it to {other}")
    if "size" in settings.policy:
        raise UserError(f"prior '{settings.initial}' has a size of its own; training cannot change it")
    for name, value in own.items():
        if name != "dropout" and policy[name] != value:
            raise UserError(
                f"prior '{settings.initial}' has {name} {value}; training cannot change it to {policy[name]}"
            )
    return settings.model_copy(update={"policy": policy, "tokenizer": header["tokenizer"]})


def _fit(policy: Any, out: Path, table: EpochTable, stop: EarlyStop, progress: bool) -> None:
    """Run the epochs that are left, from the last checkpoint if there is one."""
    corpus, settings = table.corpus, table.settings
    interrupts = Interrupts()
    saver = TimedCheckpoint(out / "checkpoints", settings.checkpoint_seconds, interrupts)
    with quiet_lightning():
        trainer = _trainer(settings, [table, stop, saver, *([ProgressLine()] if progress else [])])
    batches = TokenBatches(
        corpus,
        settings.batch_size,
        seed=settings.seed,
        randomize=settings.randomize,
        max_tokens=settings.max_tokens,
        rank=trainer.global_rank,
        world_size=trainer.world_size,
        pin=trainer.strategy.root_device.type == "cuda",
    )
    module = LikelihoodModule(policy, settings, corpus.mean_length, len(batches) * settings.epochs)
    last = out / "checkpoints" / LAST
    apart = f", {len(table.held_out):,} set aside for the validation loss" if table.held_out is not corpus else ""
    shape = f"{len(corpus.vocabulary)} tokens, {len(batches):,} steps an epoch"
    table.say(f"{len(corpus):,} molecules to learn from{apart}, {shape}")
    with quiet_lightning(), interrupts:
        trainer.fit(module, batches, ckpt_path=str(last) if last.exists() else None, weights_only=True)
        table.catch_up(trainer, module, len(batches))
        stop.look(trainer, module)
    policy.release()


def _trainer(settings: TrainSettings, callbacks: list[pl.Callback]) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=settings.epochs,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        gradient_clip_val=settings.clip,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        devices=settings.devices,
        strategy="ddp" if settings.devices > 1 else "auto",
        num_sanity_val_steps=0,
    )


def _corpora(
    files: Sequence[str | Path], out: Path, settings: TrainSettings, validation: str | Path | None, say: Say
) -> tuple[Corpus, Corpus]:
    """The training and the validation corpus, made once a directory: a resumed training reads what lies there."""
    folder = out / "corpus"
    wanted = _source(files, settings, validation)
    made = folder / MADE_FROM
    if made.is_file():
        if json.loads(made.read_text()) != wanted:
            raise UserError(f"'{out}' was made from other files or settings; choose another directory")
    else:
        _make_corpora(files, folder, settings, validation, say)
        write_whole(made, json.dumps(wanted))
    corpus, held_out = Corpus(folder), Corpus(folder / HELD_OUT)
    if not len(held_out):
        say("too few molecules to hold one out: the validation loss is that of the training molecules")
        held_out = corpus
    return corpus, held_out


def _source(files: Sequence[str | Path], settings: TrainSettings, validation: str | Path | None) -> dict[str, Any]:
    """What a corpus depends on."""
    paths = [_existing(f) for f in (*files, *([validation] if validation else []))]
    wanted: dict[str, Any] = {
        "source": [[str(path.resolve()), path.stat().st_size] for path in paths],
        "tokenizer": settings.tokenizer,
        "max_tokens": settings.max_tokens,
    }
    if settings.holdout != TrainSettings.model_fields["holdout"].default:
        wanted["holdout"] = settings.holdout
    if settings.initial:
        wanted["initial"] = find_prior(settings.initial).sha256()
    return wanted


def _make_corpora(
    files: Sequence[str | Path], folder: Path, settings: TrainSettings, validation: str | Path | None, say: Say
) -> None:
    if validation and not any(read(record.smiles).molecule for record in read_records(validation, settings.column)):
        raise UserError(f"file '{validation}' has no molecules")
    read_files = partial(prepare, tokenizer=settings.tokenizer, max_tokens=settings.max_tokens, column=settings.column,
                         workers=settings.workers)  # fmt: skip
    vocabulary = find_prior(settings.initial).vocabulary() if settings.initial else None
    if validation:
        corpus, refusals = read_files(files, folder, vocabulary=vocabulary)
    else:
        corpus, refusals = _held_out(partial(read_files, files, folder, vocabulary=vocabulary), folder, settings)
    for line in refusals.describe():
        say(line)
    if validation:
        _, refusals = read_files([validation], folder / HELD_OUT, vocabulary=corpus.vocabulary)
        for line in refusals.describe():
            say(f"{Path(validation).name}: {line}")


def _held_out(
    read_files: Callable[..., tuple[Corpus, Refusals]], folder: Path, settings: TrainSettings
) -> tuple[Corpus, Refusals]:
    """Both parts, with a molecule in each. The hash of a molecule decides, and all of a few may fall on one side."""
    for share in (settings.holdout, *(share for share in LARGER_SHARES if share > settings.holdout)):
        with contextlib.suppress(AllHeldOut):
            corpus, refusals = read_files(holdout=share)
            if len(Corpus(folder / HELD_OUT)):
                return corpus, refusals
    corpus, refusals = read_files()
    with CorpusWriter(folder / HELD_OUT) as writer:
        writer.finish({"tokens": list(corpus.vocabulary.tokens), "tokenizer": corpus.vocabulary.tokenizer_name})
    return corpus, refusals


def _existing(path: str | Path) -> Path:
    if Path(path).is_dir():
        raise UserError(f"'{path}' is a directory, not a file of molecules")
    if not Path(path).is_file():
        raise UserError(f"file '{path}' does not exist")
    return Path(path)
