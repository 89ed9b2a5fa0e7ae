"""`addnorm generate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from addnorm.checks import check_at_least
from addnorm.cli.invoke import invoke
from addnorm.errors import UserError


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """What is continued, and how the next token is chosen."""

    run: Path = field(metadata={"positional": "RUN"})
    """Folder of a run, as `addnorm train` and `addnorm compare` leave it."""
    prompt: str = field(metadata={"positional": "PROMPT"})
    """Text to continue."""
    task: str | None = None
    """The Python file of the run's task, where it has one of its own: a run is data, and its folder runs no code."""
    scheme: str | None = None
    """The same of its scheme; the file must be what the run was trained with."""
    max_new_tokens: int = 200
    """How many tokens to add."""
    temperature: float = 0.8
    """Divides the logits; 0 always takes the likeliest token."""
    top_k: int | None = None
    """Choose among the k likeliest tokens only. None: all."""
    top_p: float = 1.0
    """Choose among the likeliest tokens that together reach this probability."""
    seed: int = 0
    """Of the choices; the same seed gives the same text."""
    json: bool = False
    """Prompt and text as JSON on standard output."""

    def __post_init__(self) -> None:
        check_at_least("max_new_tokens", self.max_new_tokens, 1)
        check_at_least("temperature", self.temperature, 0)
        check_at_least("seed", self.seed, 0)
        if self.top_k is not None:
            check_at_least("top_k", self.top_k, 1)
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p={self.top_p} is not allowed; use a probability above 0 and up to 1.")
        if not self.prompt:
            raise UserError('PROMPT is empty; give at least one letter, such as "ROMEO:".')


def command(words: Sequence[str]) -> int:
    """Run the words after `addnorm generate`."""
    return invoke(_generate, "generate", words, GenerateOptions)


def _generate(options: GenerateOptions) -> int:
    """Continue a text with a trained model.

    For a text that begins with a dash: addnorm generate RUN -- "-text".

    Examples:
      addnorm generate runs/shakespeare "ROMEO:"
      addnorm generate runs/shakespeare "ROMEO:" --max-new-tokens 500 --temperature 0.6 --seed 3
    """
    from addnorm.cli import console

    text = _continued(options)
    if options.json:
        console.print_json({"prompt": options.prompt, "text": text})
    else:
        print(visible(text))
    return 0


def visible(text: str) -> str:
    """The text without the control characters that an untrained model writes and a terminal would obey."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def _continued(options: GenerateOptions) -> str:
    import torch

    from addnorm.training.load import load_model

    model, tokenizer, _ = load_model(options.run, task=options.task, scheme=options.scheme)
    prompt = torch.from_numpy(tokenizer.encode(options.prompt))[None]
    tokens = model.generate(
        prompt,
        options.max_new_tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        generator=torch.Generator().manual_seed(options.seed),
    )
    return tokenizer.decode(tokens[0].numpy())
