"""Models with one seeded fault each, at a known place, and the same models without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

Which = Literal["attention", "feedforward"]
Order = Literal["pre", "post"]
WIDTH, HEADS, VOCABULARY = 32, 4, 61


class Attention(nn.Module):
    """Causal self-attention, as in many a tutorial."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.causal = True

    def forward(self, x: Tensor) -> Tensor:
        split = self.qkv(x).unflatten(-1, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(*split.unbind(0), is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).flatten(-2))


class FeedForward(nn.Module):
    """Two linears with GELU between."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(nn.functional.gelu(self.up(x)))


class Layer(nn.Module):
    """Attention and feed-forward, each with its skip; `join` is where faults are put."""

    def __init__(self, order: Order) -> None:
        super().__init__()
        self.order = order
        self.attention_norm, self.feedforward_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention, self.feedforward = Attention(), FeedForward()

    def join(self, which: Which, x: Tensor, update: Tensor) -> Tensor:
        return x + update

    def forward(self, x: Tensor) -> Tensor:
        if self.order == "pre":
            x = self.join("attention", x, self.attention(self.attention_norm(x)))
            return self.join("feedforward", x, self.feedforward(self.feedforward_norm(x)))
        x = self.attention_norm(self.join("attention", x, self.attention(x)))
        return self.feedforward_norm(self.join("feedforward", x, self.feedforward(x)))


class Net(nn.Module):
    """A causal language model: token ids to logits."""

    def __init__(self, order: Order, num_layers: int, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(64, WIDTH)
            self.layers = nn.ModuleList(Layer(order) for _ in range(num_layers))
            self.norm = nn.LayerNorm(WIDTH) if order == "pre" else nn.Identity()
            self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


@dataclass(frozen=True)
class Place:
    """One sublayer."""

    layer: int
    which: Which

    @property
    def name(self) -> str:
        return f"layers.{self.layer}.{self.which}"


Seed = Callable[[Net, Place], None]
FAULTS: dict[str, tuple[str, Seed]] = {}
"""By name: the cause that is to be named, and what makes the fault."""


def fault(cause: str) -> Callable[[Seed], Seed]:
    def add(seed: Seed) -> Seed:
        FAULTS[seed.__name__] = (cause, seed)
        return seed

    return add


def joined(net: Net, place: Place, join: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Give one sublayer another way of joining."""
    layer = net.layers[place.layer]
    layer.join = lambda which, x, update: join(x, update) if which == place.which else x + update


def sublayer(net: Net, place: Place) -> nn.Module:
    return getattr(net.layers[place.layer], place.which)


def last_linear(net: Net, place: Place) -> nn.Linear:
    part = sublayer(net, place)
    return part.out if place.which == "attention" else part.down


@fault("dropped skip")
def skip_dropped(net: Net, place: Place) -> None:
    joined(net, place, lambda x, update: update)


@fault("mis-scaled branch")
def branch_times_50(net: Net, place: Place) -> None:
    joined(net, place, lambda x, update: x + 50 * update)


@fault("mis-scaled branch")
def output_weights_times_100(net: Net, place: Place) -> None:
    linear = last_linear(net, place)
    with torch.no_grad():
        linear.weight.mul_(100)
        linear.bias.mul_(100)


@fault("mis-scaled branch")
def branch_over_1000(net: Net, place: Place) -> None:
    joined(net, place, lambda x, update: x + update / 1000)


@fault("mis-scaled skip")
def skip_over_50(net: Net, place: Place) -> None:
    joined(net, place, lambda x, update: x / 50 + update)


@fault("doubled skip")
def skip_twice(net: Net, place: Place) -> None:
    joined(net, place, lambda x, update: x + (x + update))


@fault("missing norm")
def norm_missing(net: Net, place: Place) -> None:
    setattr(net.layers[place.layer], f"{place.which}_norm", nn.Identity())


class Twice(nn.Module):
    """The norm, and once more what it computes."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.first, self.second = norm, nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


@fault("doubled norm")
def norm_twice(net: Net, place: Place) -> None:
    name = f"{place.which}_norm"
    setattr(net.layers[place.layer], name, Twice(getattr(net.layers[place.layer], name)))


class NormedAgain(nn.Module):
    """A sublayer that norms its input, which was normed already."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.norm, self.part = nn.LayerNorm(WIDTH), part

    def forward(self, x: Tensor) -> Tensor:
        return self.part(self.norm(x))


@fault("doubled norm")
def norm_inside_again(net: Net, place: Place) -> None:
    setattr(net.layers[place.layer], place.which, NormedAgain(sublayer(net, place)))


class Scaled(nn.Module):
    """A sublayer with a gain on its output."""

    def __init__(self, part: nn.Module, gain: Tensor, *, relu: bool = False, trained: bool = True) -> None:
        super().__init__()
        self.part, self.relu = part, relu
        self.gain = nn.Parameter(gain, requires_grad=trained)

    def forward(self, x: Tensor) -> Tensor:
        return (self.gain.relu() if self.relu else self.gain) * self.part(x)


@fault("dead gate")
def gate_behind_relu(net: Net, place: Place) -> None:
    gate = Scaled(sublayer(net, place), torch.tensor(-1.0), relu=True)
    setattr(net.layers[place.layer], place.which, gate)


@fault("dead gate")
def layer_scale_frozen_at_zero(net: Net, place: Place) -> None:
    scaled = Scaled(sublayer(net, place), torch.zeros(WIDTH), trained=False)
    setattr(net.layers[place.layer], place.which, scaled)


@fault("dead gate")
def gain_and_output_zero(net: Net, place: Place) -> None:
    linear = last_linear(net, place)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    setattr(net.layers[place.layer], place.which, Scaled(sublayer(net, place), torch.zeros(WIDTH)))


@fault("unused layer")
def output_discarded(net: Net, place: Place) -> None:
    joined(net, place, lambda x, update: x)


@fault("vanishing gradient")
def state_detached(net: Net, place: Place) -> None:
    joined(net, place, lambda x, update: x.detach() + update.detach())


@fault("vanishing gradient")
def state_nearly_detached(net: Net, place: Place) -> None:
    joined(net, place, lambda x, update: (x + update).detach() + 1e-4 * ((x + update) - (x + update).detach()))


@fault("dropped skip")
def trunk_through_tanh(net: Net, place: Place) -> None:
    joined(net, place, lambda x, update: torch.tanh(x + update))


@fault("exploding gradient")
def steep_branch(net: Net, place: Place) -> None:
    joined(net, place, lambda x, update: x + torch.sin(3e4 * update))


@fault("rank collapse")
def tokens_averaged(net: Net, place: Place) -> None:
    def running_mean(x: Tensor, update: Tensor) -> Tensor:
        return (x + update)[:, :1].expand_as(x)

    joined(net, place, running_mean)


@fault("non-causal mixing")
def looks_ahead(net: Net, place: Place) -> None:
    joined(net, place, lambda x, update: x + update + 0.1 * update.roll(-1, dims=1))


@fault("non-causal mixing")
def mean_over_the_sequence(net: Net, place: Place) -> None:
    joined(net, place, lambda x, update: x + update - update.mean(dim=1, keepdim=True))


@fault("non-finite values")
def weight_is_infinite(net: Net, place: Place) -> None:
    with torch.no_grad():
        last_linear(net, place).weight[0, 0] = torch.inf


@fault("non-finite values")
def root_of_negative(net: Net, place: Place) -> None:
    joined(net, place, lambda x, update: x + (update - 10).sqrt())


def places(num_layers: int) -> list[Place]:
    """Near the entrance, in the middle, near the exit."""
    chosen: list[tuple[int, Which]] = [
        (1, "feedforward"),
        (num_layers // 2, "attention"),
        (num_layers - 2, "feedforward"),
    ]
    return [Place(layer, which) for layer, which in chosen]


def seeded(name: str, order: Order, num_layers: int, place: Place, seed: int = 0) -> Net:
    """A fresh model with the named fault."""
    net = Net(order, num_layers, seed)
    FAULTS[name][1](net, place)
    return net


def batch(rows: int = 3, tokens: int = 12, seed: int = 0) -> Tensor:
    return torch.randint(VOCABULARY, (rows, tokens), generator=torch.Generator().manual_seed(seed))


class StreamNet(nn.Module):
    """Several streams that softmax matrices mix; `mixing` of each sublayer is where faults are put."""

    STREAMS = 3

    def __init__(self, num_layers: int, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.tokens = nn.Embedding(VOCABULARY, WIDTH)
            self.parts = nn.ModuleList(FeedForward() if i % 2 else Attention() for i in range(2 * num_layers))
            self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in self.parts)
            self.scores = nn.Parameter(torch.randn(len(self.parts), self.STREAMS, self.STREAMS) + 2 * torch.eye(3))
            self.reads = nn.Parameter(torch.randn(len(self.parts), self.STREAMS))
            self.writes = nn.Parameter(torch.rand(len(self.parts), self.STREAMS) + 0.5)
            self.start = nn.Parameter(torch.randn(self.STREAMS, 1))
            self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY)

    def mixing(self, i: int) -> Tensor:
        return self.scores[i].softmax(-1)

    def gates(self, i: int) -> Tensor:
        return self.writes[i]

    def forward(self, ids: Tensor) -> Tensor:
        state = self.tokens(ids).unsqueeze(-2) * self.start
        for i, (part, norm) in enumerate(zip(self.parts, self.norms, strict=True)):
            update = part(norm(torch.einsum("n,btnd->btd", self.reads[i].softmax(-1), state)))
            state = torch.einsum("mn,btnd->btmd", self.mixing(i), state)
            state = state + self.gates(i).unsqueeze(-1) * update.unsqueeze(-2)
        return self.head(self.norm(state.sum(-2)))


def stream_fault(name: str, at: int, num_layers: int = 4) -> StreamNet:
    """A fresh net of streams with the named fault at a sublayer."""
    net = StreamNet(num_layers)
    mixing, gates = net.mixing, net.gates
    if name == "transposed mixing":
        net.mixing = lambda i: mixing(i).T if i == at else mixing(i)
    if name == "homogenised streams":
        net.mixing = lambda i: torch.full((3, 3), 1 / 3) if i == at else mixing(i)
        net.gates = lambda i: torch.ones(3) if i == at else gates(i)
    if name == "frozen streams":
        keep, last = torch.tensor([[1.0], [1.0], [0.0]]), torch.tensor([[0.0, 0.0, 1.0]])
        net.mixing = lambda i: mixing(i) * keep + last * (1 - keep)
        net.gates = lambda i: gates(i) * keep[:, 0]
    return net
