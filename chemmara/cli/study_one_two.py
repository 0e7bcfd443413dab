"""chemmara study one-two: the LLM 1-2 task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Names = list[str] | None


def register(study: typer.Typer) -> None:
    """Add the command to the group."""
    study.command("one-two")(one_two)


def one_two(
    out: Annotated[Path, typer.Option("-o", "--out", help="directory for tables and plots")] = Path("one-two"),
    model: Annotated[
        str, typer.Option(help="tiny (made on the spot, offline), a directory, or a name on the hub")
    ] = "tiny",
    augmentation: Annotated[
        Names, typer.Option(help="none, mara, ...; may be repeated [default: none and mara]")
    ] = None,
    objective: Annotated[
        Names, typer.Option(help="reverse_kl, reinvent, grpo, ...; may be repeated [default: reverse_kl]")
    ] = None,
    betas: Annotated[str | None, typer.Option(help="such as 0.01,0.1 [default: 0.001,0.01,0.03,0.1]")] = None,
    seeds: Annotated[str, typer.Option(help="3, 0-4 or 1,5,9")] = "0-2",
    flatten: Annotated[
        str, typer.Option(help="what mara makes equally likely: answers, or strings (as published)")
    ] = "answers",
    steps: Annotated[int | None, typer.Option(help="updates a run [default: 120 tiny, 500 real]")] = None,
    batch_size: Annotated[int, typer.Option(help="episodes a step")] = 64,
    learning_rate: Annotated[
        float | None, typer.Option(help="Adam's step size [default: 2e-3 tiny, 2e-5 LoRA, 1e-6 full]")
    ] = None,
    tuning: Annotated[str | None, typer.Option(help="of a real model: lora or full [default: lora]")] = None,
    precision: Annotated[str, typer.Option(help="of a real model: auto, float32 or bfloat16")] = "auto",
    device: Annotated[str, typer.Option(help="of a real model: auto, cpu, cuda or cuda:N")] = "auto",
    micro_batch: Annotated[int | None, typer.Option(help="episodes a backward pass; gradients add up")] = None,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="less memory, slower steps")
    ] = False,
    chat: Annotated[
        bool, typer.Option("--chat", help="write the prompt through the tokenizer's chat template")
    ] = False,
    max_new_tokens: Annotated[int | None, typer.Option(help="tokens a completion [default: 20 tiny, 256 real]")] = None,
    assignments: Annotated[
        Names,
        typer.Option("--set", metavar="KEY=VALUE", help="such as objective.kl=sequence, augmentation.anchor=running"),
    ] = None,
) -> None:
    """Two answers of equal reward, one of them rarer: what becomes of it? (the 1-2 task of arXiv 2510.20817)"""
    from chemmara.config import check, set_key
    from chemmara.errors import UserError
    from chemmara.studies.causal_lm_settings import TINY
    from chemmara.studies.one_two_settings import OneTwoSettings

    if model == TINY and tuning == "lora":
        raise UserError("--tuning lora is for a real model; all weights of tiny are trained")
    language_model = {
        "name": model, "tuning": tuning, "precision": precision, "device": device, "micro_batch": micro_batch,
        "gradient_checkpointing": gradient_checkpointing, "chat": chat,
    }  # fmt: skip
    language_model = {key: value for key, value in language_model.items() if value is not None}
    table: dict[str, Any] = {
        "model": language_model, "augmentations": _names(augmentation), "objectives": _names(objective),
        "betas": _betas(betas), "seeds": _seeds(seeds), "flatten": flatten, "steps": steps, "batch_size": batch_size,
        "learning_rate": learning_rate, "max_new_tokens": max_new_tokens,
    }  # fmt: skip
    table = {key: value for key, value in table.items() if value is not None}
    for assignment in assignments or ():
        table = set_key(table, assignment)
    _run(check(OneTwoSettings, table, "one-two").resolved(), out)


def _names(given: Names) -> list[str] | None:
    """Repeated options, each of which may hold several names with commas, without repeats."""
    split = (name.strip() for text in given or () for name in text.split(","))
    return list(dict.fromkeys(name for name in split if name)) or None


def _betas(text: str | None) -> list[float] | None:
    from chemmara.errors import UserError

    if text is None:
        return None
    try:
        return list(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        raise UserError(f"--betas takes numbers with commas between them, such as 0.01,0.1 (got '{text}')") from None


def _seeds(text: str) -> list[int]:
    from chemmara.cli.optimize import parse_seeds

    return parse_seeds(text)


def _run(settings: Any, out: Path) -> None:
    from chemmara.cli.console import console
    from chemmara.places import check_directory
    from chemmara.studies.causal_lm_settings import require_llm
    from chemmara.studies.one_two_report import Follow, Writer, summary_table, write_plots

    check_directory(out)
    require_llm(lora=settings.model.adapter is not None)
    from chemmara.studies.one_two import OneTwo, load_model, run_grid
    from chemmara.studies.one_two_target import RunKey, grid
    from chemmara.studies.threads import one_thread

    screen = console()
    with one_thread(settings.tiny):
        screen.print(f"model: {settings.model.name}", markup=False)
        study = OneTwo(settings, load_model(settings))
        seen = study.reference
        screen.print(
            f"the reference answers 1 {seen.ones:,} and 2 {seen.twos:,} times in {seen.samples:,}: "
            f"entropy {seen.entropy:.3f} nats, reward {(seen.ones + seen.twos) / seen.samples:.3f}"
        )
        writer, every = Writer(out, settings), []
        with Follow(screen, len(grid(settings)), settings.steps) as follow:
            for rows in run_grid(study, lambda key, row: follow.step(str(key), row)):
                conclusion = study.conclusion(rows)
                writer.add(rows, conclusion)
                every += rows
                follow.end(str(RunKey.of(rows[-1])), conclusion)
        write_plots(out, every, writer.final, seen.entropy)
    screen.print(summary_table(writer.final))
    screen.print(f"tables and plots written to {out}", markup=False)
