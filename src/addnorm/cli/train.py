"""`addnorm train`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from addnorm.cli.invoke import invoke
from addnorm.cli.options import Passes, Watching
from addnorm.cli.task_defaults import of_task
from addnorm.config import RunConfig
from addnorm.specification import files_in


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Passes, Watching):
    """What to do with the run."""

    out: Path | None = None
    """Folder of the run; must be new. Default: runs/train-DATE-TIME, with --resume the newest of them."""
    resume: bool = False
    """Continue a run that was stopped, with its config, bit for bit as if it had not been stopped."""
    threads: int | None = None
    """Processor threads. None: OMP_NUM_THREADS if it is set, else one up to a width of 128, where a second brings
    little, and all cores beyond. A resumed run keeps what it had."""
    config: Path | None = None
    """TOML or JSON file with any of the fields above, such as a run's config.json; flags override it."""
    print_config: bool = False
    """Print what would be trained, as TOML that --config reads, and stop."""
    json: bool = False
    """The result as JSON on standard output, and nothing else there."""


def command(words: Sequence[str]) -> int:
    """Run the words after `addnorm train`."""
    return invoke(_train, "train", words, RunConfig, TrainOptions, stored="config.json", complete=of_task("defaults"))


def _train(config: RunConfig, options: TrainOptions) -> int:
    """Train one model. Ctrl-C and SIGTERM save it within a step; --resume continues it.

    Examples:
      addnorm train --scheme mhc --depth 12 --lr 1e-3
      addnorm train --task translation --epochs 3 --out runs/translation
    """
    from addnorm.cli import console
    from addnorm.cli.failure import DIVERGED, DONE
    from addnorm.cli.folders import folder

    out = folder("train", options.out, options.resume)
    result = _run(config, out, options)
    if options.json:
        console.print_json({**result, "folder": out})
    else:
        for line in _summary(result, out, config):
            console.out().print(line, markup=False, soft_wrap=True)
    return DIVERGED if _diverged(result) else DONE


def _run(config: RunConfig, out: Path, options: TrainOptions) -> dict[str, Any]:
    from addnorm.cli.progress import Live
    from addnorm.cli.threads import computing_with, threads

    number = threads(options.threads, config.d_model, out if options.resume else None)
    with Live(options.json or options.quiet, options.log_every) as live:
        live.doing("loading torch")
        from addnorm.kernels.allocator import keep_freed_memory
        from addnorm.training.run import train

        keep_freed_memory()
        with computing_with(number):
            return train(config, out, resume=options.resume, on_progress=live.of_run)


def _summary(result: dict[str, Any], out: Path, config: RunConfig) -> list[str]:
    from addnorm.cli.progress import span

    diagnosis, rate = result["diagnosis"], result["tokens_per_s"]
    lines = [
        f"validation loss  {_loss(result['validation_loss'])} {result.get('loss_name', 'nats per token')}",
        *(f"{score['name']:<16} {_loss(score['value'])}" for score in result.get("scores", [])),
        f"trained          {result['tokens']:,} tokens in {span(result['wall_s'])}: {rate:,.0f} a second",
        *_stopped(result),
        f"diagnosis        {diagnosis['kind']}{_where(diagnosis)}",
        f"folder           {out}",
    ]
    if not _diverged(result):
        named = {flag: files_in(getattr(config, flag)) for flag in ("task", "scheme")}
        texts = {flag: files[0] if len(files) == 1 else getattr(config, flag) for flag, files in named.items() if files}
        code = "".join(f" --{flag} {shlex.quote(text)}" for flag, text in texts.items())
        lines.append(f"\naddnorm evaluate {out}{code}")
    return lines


def _stopped(result: dict[str, Any]) -> list[str]:
    """What a run that stopped early leaves."""
    if result["status"] != "stopped early":
        return []
    return [f"stopped early    the checkpoint of the lowest validation loss, {_loss(result['lowest_validation_loss'])}"]


def _diverged(result: dict[str, Any]) -> bool:
    return "diverged" in (result["status"], result["diagnosis"]["kind"])


def _loss(loss: Any) -> str:
    return f"{loss:.4f}" if isinstance(loss, float) else str(loss)


def _where(diagnosis: dict[str, Any]) -> str:
    """`, beginning at sublayer 3 (blocks.3...): gradient norm 1e+12`, as far as it is known."""
    site = f", beginning at sublayer {diagnosis['site']}" if diagnosis.get("site") is not None else ""
    layer = f" ({diagnosis['layer']})" if diagnosis.get("layer") else ""
    return f"{site}{layer}: {diagnosis['figure']}" if diagnosis.get("figure") else f"{site}{layer}"
