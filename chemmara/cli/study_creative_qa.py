"""chemmara study creative-qa."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Names = list[str] | None


def register(study: typer.Typer) -> None:
    """Add the command to the group."""
    study.command("creative-qa")(creative_qa)


def creative_qa(
    out: Annotated[Path, typer.Option("-o", "--out", help="directory for tables, answers and plots")] = Path(
        "creative-qa"
    ),
    model: Annotated[
        str, typer.Option(help="tiny (made on the spot, offline), a directory, or a name such as Qwen/Qwen3-1.7B")
    ] = "tiny",
    reward_model: Annotated[
        str, typer.Option(help="tiny, a directory, or a name such as Skywork/Skywork-Reward-V2-Qwen3-4B")
    ] = "tiny",
    prompts: Annotated[
        Path | None,
        typer.Option(help=".txt, a prompt a line, or .jsonl with the field prompt [default: the tiny task's]"),
    ] = None,
    evaluate: Annotated[
        Path | None, typer.Option(help="prompts of the evaluation [default: those of the training]")
    ] = None,
    augmentation: Annotated[Names, typer.Option(help="none, mara; may be repeated [default: both]")] = None,
    objective: Annotated[str, typer.Option(help="reverse_kl (RLOO with the KL in the reward), reinvent, grpo, ...")] = (
        "reverse_kl"
    ),
    beta: Annotated[float | None, typer.Option(help="KL strength, reward units per nat [default: 0.1]")] = None,
    quantile: Annotated[
        float | None, typer.Option(help="MARA's threshold: this quantile of the rewards [default: 0.5]")
    ] = None,
    quantile_over: Annotated[
        str, typer.Option(help="of all of a step's rewards (batch), or of each prompt's")
    ] = "batch",
    seeds: Annotated[str | None, typer.Option(help="3, 0-4 or 1,5,9 [default: 0-2 tiny, 0 real]")] = None,
    steps: Annotated[int | None, typer.Option(help="updates a run [default: 100 tiny, 900 real]")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Adam's step size [default: 1e-3 tiny, 1e-5 LoRA, 1e-6 full]")
    ] = None,
    embedding: Annotated[
        str, typer.Option(help="hashed, or a model such as sentence-transformers/all-MiniLM-L6-v2")
    ] = "hashed",
    tuning: Annotated[str, typer.Option(help="of a real model: lora or full")] = "lora",
    precision: Annotated[str, typer.Option(help="of a real model: auto, float32 or bfloat16")] = "auto",
    device: Annotated[str, typer.Option(help="of a real model: auto, cpu, cuda or cuda:N")] = "auto",
    micro_batch: Annotated[int | None, typer.Option(help="answers a backward pass; gradients add up")] = None,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="less memory, slower steps")
    ] = False,
    chat: Annotated[bool, typer.Option("--chat", help="write prompts through the policy's chat template")] = False,
    max_new_tokens: Annotated[int | None, typer.Option(help="tokens an answer [default: 16 tiny, 2048 real]")] = None,
    assignments: Annotated[
        Names, typer.Option("--set", metavar="KEY=VALUE", help="such as prompts_per_step=16, generations=20")
    ] = None,
) -> None:
    """Tune a policy on a reward model that likes many answers: how many of them does it keep writing?"""
    from chemmara.cli.optimize import parse_seeds
    from chemmara.config import check, set_key
    from chemmara.studies.creative_qa_settings import CreativeQASettings

    language_model = {
        "name": model, "tuning": tuning, "precision": precision, "device": device, "micro_batch": micro_batch,
        "gradient_checkpointing": gradient_checkpointing, "chat": chat,
    }  # fmt: skip
    table: dict[str, Any] = {
        "model": language_model, "reward_model": reward_model, "prompts": prompts, "evaluate": evaluate,
        "augmentations": list(dict.fromkeys(augmentation)) if augmentation else None, "objective": objective,
        "beta": beta, "quantile": quantile, "quantile_over": quantile_over,
        "seeds": None if seeds is None else parse_seeds(seeds), "steps": steps, "learning_rate": learning_rate,
        "embedding": embedding, "max_new_tokens": max_new_tokens,
    }  # fmt: skip
    table = {key: value for key, value in table.items() if value is not None}
    for assignment in assignments or ():
        table = set_key(table, assignment)
    _run(check(CreativeQASettings, table, "creative-qa").resolved(), out)


def _run(settings: Any, out: Path) -> None:
    from chemmara.cli.console import console
    from chemmara.places import check_directory
    from chemmara.studies.causal_lm_settings import require_llm
    from chemmara.studies.creative_qa_prompts import read_prompts
    from chemmara.studies.creative_qa_report import Follow, Writer, summary_table, verdict

    require_llm(lora=not settings.tiny and settings.model.tuning == "lora")
    # Before anything is loaded:
    check_directory(out)
    for path in (settings.prompts, settings.evaluate):
        if path is not None:
            read_prompts(path)
    from chemmara.studies.creative_qa import CreativeQA, load_models, run_all
    from chemmara.studies.threads import one_thread

    screen = console()
    with one_thread(settings.tiny):
        screen.print(f"models: {settings.model.name}, {settings.reward_model}", markup=False)
        study = CreativeQA(settings, *load_models(settings))
        writer = Writer(out, settings)
        for note in study.notes:
            screen.print(note, markup=False)
        with Follow(screen, len(settings.augmentations) * len(settings.seeds), settings.steps) as follow:
            run_all(study, writer, follow)
        writer.plots()
    screen.print(summary_table(writer.summary))
    screen.print(verdict(writer.summary), markup=False)
    screen.print(f"tables, answers and plots written to {out}", markup=False)
