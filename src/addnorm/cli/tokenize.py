"""`addnorm tokenize`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from addnorm.cli.invoke import invoke
from addnorm.data.tokens.tokenizing import TokenizeConfig
from addnorm.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TokenizeOptions:
    """Where the tokens go."""

    out: Path | None = None
    """Folder of the token store; must be new. `addnorm train --data FOLDER` reads it."""
    resume: bool = False
    """Go on with a build that was broken off."""
    verify: bool = False
    """SOURCE is a token store: hold its shards against their SHA-256, and write nothing."""
    json: bool = False
    """What stands in index.json on standard output, and nothing else there."""

    def __post_init__(self) -> None:
        if self.out is None and not self.verify:
            raise UserError("--out is missing: the folder of the token store that is to be made.")


def command(words: Sequence[str]) -> int:
    """Run the words after `addnorm tokenize`."""
    return invoke(_tokenize, "tokenize", words, TokenizeConfig, TokenizeOptions)


def _tokenize(config: TokenizeConfig, options: TokenizeOptions) -> int:
    """Write a text of any size as tokens into mapped shards, in constant memory.

    Ctrl-C and SIGTERM keep what was saved last; --resume goes on there.
    """
    from addnorm.cli import console

    if options.verify or options.out is None:
        return _verify(config.source, options)
    began = time.perf_counter()
    index = _run(config, options.out, options)
    wall_s = time.perf_counter() - began
    if options.json:
        console.print_json(index)
        return 0
    for line in _summary(index, options.out, wall_s):
        console.out().print(line, markup=False, soft_wrap=True)
    return 0


def _verify(source: str, options: TokenizeOptions) -> int:
    from addnorm.cli import console
    from addnorm.data.tokens.token_store import TokenStore

    store = TokenStore(source)
    count = store.verify()
    if options.json:
        console.print_json(store.index)
    else:
        console.out().print(f"{source}: {count} shards are whole", markup=False, soft_wrap=True)
    return 0


def _run(config: TokenizeConfig, out: Path, options: TokenizeOptions) -> dict[str, Any]:
    from addnorm.cli.progress import Live
    from addnorm.data.tokens.token_store_build import BuildProgress, build
    from addnorm.training.interruption import Watch

    with Live(quiet=options.json) as live, Watch() as watch:
        live.doing("reading")

        def on_progress(now: BuildProgress) -> None:
            if watch.signal_number is not None:
                raise watch.interrupted(out)
            live.of_tokenizing(now)

        return build(config, out, resume=options.resume, on_progress=on_progress)


def _summary(index: dict[str, Any], out: Path, wall_s: float) -> list[str]:
    from addnorm.cli.progress import span

    tokens = sum(split["tokens"] for split in index["splits"].values())
    lines = [
        f"{name:<16} {split['tokens']:,} tokens of {split['documents']:,} documents, {len(split['shards'])} shards"
        for name, split in index["splits"].items()
    ]
    lines += [f"tokenizer        {index['tokenizer']}, {index['vocab_size']:,} entries, {index['dtype']}"]
    lines += [f"written          in {span(wall_s)}: {tokens / wall_s:,.0f} tokens a second"]
    bad = index["bad_records"]
    if bad["count"]:
        lines += [f"left out         {bad['count']:,} bad records; index.json lists the first {len(bad['first'])}"]
        lines += [f"                 {text}" for text in bad["first"][:5]]
    lines += [f"note             {note}" for note in index.get("notes", [])]  # older stores have none
    return [*lines, f"folder           {out}", f"\naddnorm train --data {out}"]
