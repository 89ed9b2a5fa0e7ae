"""Train a small model on Shakespeare, load it from its folder, continue a text, and ask for its probabilities."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

import addnorm


def main(steps: int = 120) -> str:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        result = addnorm.train(
            out,
            scheme="mhc",
            steps=steps,
            d_model=32,
            num_heads=2,
            num_layers=1,
            context=32,
            evaluations=1,
            score_items=0,
        )
        print(f"{result['status']}: {result['validation_loss']:.2f} nats a byte")
        run = addnorm.load(out)

    model, tokenizer = run.model, run.reader.tokenizer
    prompt = torch.from_numpy(tokenizer.encode("ROMEO:"))[None]  # (1, tokens)
    tokens = model.generate(prompt, 60, temperature=0.8, top_p=0.9, generator=torch.Generator().manual_seed(0))
    text = tokenizer.decode(tokens[0].numpy())
    print(text)

    with torch.no_grad():
        probability, token = model(prompt)[0, -1].softmax(-1).max(-1)
    print(f"after {'ROMEO:'!r} most likely {tokenizer.decode(token[None].numpy())!r}, {probability:.0%}")
    return text


if __name__ == "__main__":
    main()
