"""The file of a user who has written a scheme."""

MINE = '''"""A scheme of one's own."""

from dataclasses import dataclass

import torch
from torch import nn

import addnorm
from addnorm.layers.norm import make_norm


class ScaledConnection(addnorm.Connection):
    def __init__(self, d_model, norm, alpha):
        super().__init__()
        self.norm, self.start, self.alpha = make_norm(norm, d_model), alpha, nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.constant_(self.alpha, self.start)

    def read(self, state):
        return self.norm(state), state

    def write(self, skip, update):
        return skip + self.alpha * update


@dataclass(frozen=True, kw_only=True)
class Scaled(addnorm.Scheme):
    """Scaled Pre-LN: x <- x + alpha * F(n(x))."""

    alpha: float = 0.5

    def connection(self, d_model, site):
        return ScaledConnection(d_model, self.norm, self.alpha)
'''
