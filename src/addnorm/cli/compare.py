"""`addnorm compare`."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from addnorm.cli.invoke import invoke
from addnorm.cli.options import Passes, Watching
from addnorm.cli.task_defaults import of_task
from addnorm.errors import UserError
from addnorm.studies.spec import CompareConfig


class FolderWarning(UserWarning):
    """A comparison could not be written where it is to be."""


@dataclass(frozen=True, kw_only=True)
class CompareOptions(Passes, Watching):
    """What to do with the comparison."""

    runs: tuple[Path, ...] = ()
    """Folders of runs that have ended, to be compared as they are: nothing is trained. Of the fields above --baseline
    and --margin are read."""
    out: Path | None = None
    """Folder of the comparison; must be new. Default: runs/compare-DATE-TIME, with --resume the newest of them."""
    resume: bool = False
    """Continue a comparison that was stopped, as it was specified; runs that ended are kept."""
    config: Path | None = None
    """TOML or JSON file with any of the fields above; flags override it."""
    print_config: bool = False
    """Print what would be compared, as TOML that --config reads, and stop."""
    dry_run: bool = False
    """Print parameters, memory, FLOPs and estimated time of each arm, and stop."""
    json: bool = False
    """Results as JSON on standard output, and nothing else there."""


def command(words: Sequence[str]) -> int:
    """Run the words after `addnorm compare`."""
    return invoke(
        _compare, "compare", words, CompareConfig, CompareOptions, stored="spec.json", complete=of_task("comparison")
    )


def _compare(spec: CompareConfig, options: CompareOptions) -> int:
    """Train small Transformers that differ only in their residual scheme, and say which train and what each costs.

    Lists take blanks or commas: --layers 4 24 or --layers 4,24.

    Examples:
      addnorm compare --schemes pre-norm,post-norm,deep-norm --layers 4 24
      addnorm compare --task classification --seeds 3 --steps 200 --dry-run
    """
    if options.runs:
        return _compare_runs(spec, options)
    if options.dry_run:
        return _dry_run(spec, options)
    from addnorm.cli import console
    from addnorm.cli.failure import DONE, FAILED
    from addnorm.cli.folders import folder

    out = folder("compare", options.out, options.resume)
    results, report = _run(spec, out, options)
    console.print_comparison(results, report, as_json=options.json)
    return FAILED if results.get("failures") else DONE


def _compare_runs(spec: CompareConfig, options: CompareOptions) -> int:
    """The same of runs that have ended."""
    if options.dry_run or options.resume:
        raise UserError("--runs trains nothing; leave out --resume and --dry-run.")
    from addnorm.cli import console
    from addnorm.cli.folders import folder
    from addnorm.files import write_json
    from addnorm.reports.report import write_reports
    from addnorm.studies.of_runs import compare_runs

    out = folder("compare", options.out, resume=False)
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} exists already; give another folder.")
    results = compare_runs(options.runs, baseline=_named(spec.baseline), margin=spec.margin)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "results.json", results)
    console.print_comparison(results, f"open {write_reports(results, out)[-1]}", as_json=options.json)
    return 0


def _named(baseline: str) -> str | None:
    """The baseline, where it is not the default one."""
    return None if baseline == CompareConfig.baseline else baseline


def _run(spec: CompareConfig, out: Path, options: CompareOptions) -> tuple[dict[str, Any], str]:
    """Train, write the reports, say where they are."""
    from addnorm.cli.progress import Live, span

    with Live(options.json or options.quiet, options.log_every) as live:
        live.doing("loading torch")
        from addnorm.reports.report import write_page, write_reports
        from addnorm.studies.compare import compare

        with _resumable(out):
            results = compare(
                spec,
                out,
                resume=options.resume,
                progress=live.of_comparison,
                show=lambda found: write_page(found, out),
            )
            live.doing("writing the report")
            written = write_reports(results, out)
    page = next((path for path in written if path.name == "report.html"), out)
    return results, f"{span(results['wall_s'])}; results in {out}; open {page}"


@contextmanager
def _resumable(out: Path) -> Iterator[None]:
    """Have a Ctrl-C say how to go on, whatever it breaks off: reading, training, the report."""
    from addnorm.training.interruption import Interrupted

    try:
        yield
    except KeyboardInterrupt:
        if (out / "spec.json").is_file():
            raise Interrupted(out, signal.SIGINT) from None
        raise


def _dry_run(spec: CompareConfig, options: CompareOptions) -> int:
    from addnorm.cli import console
    from addnorm.cli.cost_table import legend, table
    from addnorm.cli.progress import Live

    with Live(options.json or options.quiet, options.log_every) as live:
        live.doing("measuring a few steps of every arm")
        from addnorm.studies.dry_run import estimate, total_wall_s

        rows = estimate(spec)
    total = total_wall_s(rows, spec)
    _warn_of_folder(spec, options)
    if options.json:
        console.print_json({"arms": rows, "wall_s": total})
    else:
        console.out().print(table(rows), f"\n{legend(rows, total)}", sep="\n")
    return 0


def _warn_of_folder(spec: CompareConfig, options: CompareOptions) -> None:
    """Say now why the same words without --dry-run would be refused."""
    from addnorm.studies.store import Store

    if options.out is None:
        return
    try:
        Store(options.out).check(spec, resume=options.resume)
    except UserError as error:
        warnings.warn(f"without --dry-run this is refused: {error}", FolderWarning, stacklevel=2)
