"""A task of your own in one file: addnorm train --task examples/your_own_task.py --scheme mhc."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from addnorm import Encoder, schemes
from addnorm.tasks import Prediction, Problem, Reader, Score, Task, evaluating


class Sorter(Reader):
    """An encoder that names a digit at every place."""

    def build(self, config):
        shape = {"d_model": config.d_model, "num_heads": config.num_heads, "num_layers": config.num_layers}
        encoder = Encoder(schemes.parse(config.scheme), seed=config.seed, vocab_size=10, calibration="later", **shape)
        return nn.Sequential(encoder, nn.Linear(config.d_model, 10))

    def predict(self, model, given, config, beside=None):
        digits = model(torch.tensor([[int(digit) for digit in given]])).argmax(-1)[0].tolist()
        return Prediction(text="".join(map(str, digits)))

    def save(self, folder):
        """Digits need no vocabulary."""


class SortingProblem(Problem):
    """Numbers drawn from the seed and the step."""

    fingerprint, chance_loss, chance_name = "digits", math.log(10), "even odds"

    def train_batch(self, step):
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        digits = torch.randint(10, (self.config.batch_size, self.config.context), generator=generator)
        return digits, digits.sort().values

    def loss(self, model, batch):
        return nn.functional.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())

    def evaluate(self, model):
        with evaluating(model):
            return self.loss(model, self.train_batch(-1)).item()

    def scores(self, model, split="test", limit=None, *, baselines=True):
        digits, wanted = self.train_batch({"validation": -1, "test": -2}[split])
        with evaluating(model):
            share = (model(digits).argmax(-1) == wanted).float().mean().item()
        return [Score(name="digits in place", value=100 * share, baseline=10.0, baseline_name="guessing")]


@dataclass(frozen=True, kw_only=True)
class Sorting(Task):
    """Sorting: put the digits of a number in order."""

    defaults = {"context": 8, "batch_size": 32, "steps": 150, "d_model": 32, "num_heads": 2, "num_layers": 2}
    comparison = {"layers": (1, 2), "steps": (100,), "seeds": 2, "schemes": ("pre-norm", "post-norm")}

    def prepare(self, config, reader=None):
        return SortingProblem(config, reader or Sorter())

    def reader(self, folder):
        return Sorter()


def main(steps=60):
    """What the first line's command does; it loads this file anew, as it would from anywhere."""
    import tempfile

    import addnorm

    out = tempfile.mkdtemp() + "/run"
    result = addnorm.train(out, task=__file__, scheme="mhc", steps=steps, learning_rate=1e-2)
    run = addnorm.load(out, task=__file__)
    answer = run.reader.predict(run.model, "52903147", run.config).text
    print(f"{result['scores'][0]['value']:.0f} % of digits in place after {steps} steps; 52903147 sorted: {answer}")
    return answer


if __name__ == "__main__":
    main()
