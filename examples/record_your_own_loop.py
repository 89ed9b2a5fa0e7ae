"""Watch what every block does in a training loop of your own; the training does not change by a bit.

`to=` is a path here. A SummaryWriter of TensorBoard or the module trackio takes the same rows.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import addnorm


class Model(nn.Module):
    """Any model with a list of blocks of one class."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, 32)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True) for _ in range(4)
        )
        self.head = nn.Linear(32, 256)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, src_mask=mask, is_causal=True)
        return self.head(x)


def main(steps: int = 40) -> list[dict]:
    torch.manual_seed(0)
    text = torch.tensor(list(b"Add the input, then normalise. " * 40))
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "blocks.jsonl"
        with addnorm.Recorder(model, every=10, to=rows) as recorder:
            for _ in range(steps):
                batch = torch.stack([text[i : i + 33] for i in torch.randint(len(text) - 33, (8,)).tolist()])
                loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        stored = [json.loads(line) for line in rows.read_text().splitlines()]
    print("blocks:", ", ".join(recorder.names))
    for row in stored:
        states, moved = row["state_rms"], row["update_to_weight"]
        print(
            f"step {row['step']:2}  state RMS {' '.join(f'{value:.2f}' for value in states)}"
            f"  update over weight {' '.join(f'{value:.4f}' for value in moved)}"
        )
    return stored


if __name__ == "__main__":
    main()
