"""The code of the tutorial: each cell stands here once, for both languages."""

# %% parameters
SEEDS = 5  # of every comparison; intervals need three
EFFORT = 1.0  # share of the training steps: 0.1 runs sooner and says less

# %% setup
import tempfile
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

import addnorm
from addnorm.data.sets import digits, shakespeare
from addnorm.studies.statistics import Estimate, estimate, paired_difference
from addnorm.studies.verdict import with_interval

torch.set_num_threads(1)  # small tensors: a second thread costs more than it brings
plt.rcParams.update({"axes.grid": True, "grid.color": "#e2e4e6"})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
STYLES = [  # colour, line and mark tell curves apart
    {"color": "#1c1f23", "linestyle": "-", "marker": "o"},
    {"color": "#3574a5", "linestyle": "--", "marker": "s"},
    {"color": "#b68915", "linestyle": ":", "marker": "D"},
    {"color": "#8c1d0a", "linestyle": "-.", "marker": "^"},
]
FOLDER = Path(tempfile.mkdtemp())
results = {"seeds": SEEDS}  # what the text quotes


def steps(full):
    """A number of training steps, shortened by EFFORT."""
    return max(2, round(full * EFFORT))


def draw(axes, curves, x, y, log=True):
    """Named curves of (x, y) pairs."""
    for style, (name, points) in zip(STYLES, curves.items()):
        axes.plot(*zip(*points), **style, markersize=5, label=name)
    axes.set(xlabel=x, ylabel=y, yscale="log" if log else "linear")
    axes.legend(frameon=False)


# %% chain
class Chain(nn.Module):
    """x = F(x), or with the skip x = x + F(x), where F(x) = W2 relu(W1 relu(x))."""

    def __init__(self, depth, skip=False, gain=None):
        super().__init__()
        self.skip, self.entrance, self.head = skip, nn.Linear(64, 64), nn.Linear(64, 10)
        self.branches = nn.ModuleList(
            nn.ModuleList([nn.Linear(64, 64), nn.Linear(64, 64)]) for _ in range(depth // 2)
        )
        for weight in self.branches.parameters() if gain else ():
            if weight.dim() == 2:  # gain 2: He et al. 2015, arXiv:1502.01852
                nn.init.normal_(weight, std=(gain / 64) ** 0.5)

    def forward(self, x):
        self.states = [self.entrance(x)]
        for first, second in self.branches:
            x = self.states[-1]
            update = second(first(x.relu()).relu())
            self.states.append(x + update if self.skip else update)
        return self.head(self.states[-1])


train = digits.load().train
pixels = torch.tensor(train.pixels.reshape(-1, 64) / 16.0, dtype=torch.float32)
labels = torch.tensor(train.labels)


def gradients(net):
    """The norm of the loss's gradient for the state after each branch, before training."""
    loss = F.cross_entropy(net(pixels[:256]), labels[:256])
    return [gradient.norm().item() for gradient in torch.autograd.grad(loss, net.states)]


def fit(net, count, seed):
    """The training loss after some steps of Adam, in nats an image."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    order = torch.Generator().manual_seed(seed)
    for _ in range(count):
        chosen = torch.randint(len(pixels), (128,), generator=order)
        loss = F.cross_entropy(net(pixels[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return F.cross_entropy(net(pixels), labels).item()


DEPTHS = (2, 8, 24, 48)
KINDS = {"torch's default weights": {}, "He's weights": {"gain": 2.0}}


def by_depth(kinds):
    """Loss by depth and gradient by place, for every kind of chain."""
    losses, slopes = {}, {}
    for name, kind in kinds.items():
        for depth in DEPTHS:
            values = []
            for seed in range(min(SEEDS, 3)):
                torch.manual_seed(seed)
                net = Chain(depth, **kind)
                if depth == 24 and seed == 0:
                    slopes[name] = [(2 * i, norm) for i, norm in enumerate(gradients(net))]
                values.append(fit(net, steps(100), seed))
            losses.setdefault(name, []).append((depth, estimate(values)))
    return losses, slopes


def report(losses, slopes):
    """Print the losses, keep the numbers that the text quotes."""
    for name, row in losses.items():
        told = "  ".join(f"{depth}: {loss.mean:.3f} (n = {loss.n})" for depth, loss in row)
        print(f"{name:24} {told}")
        results.setdefault("chain", {})[name] = {
            str(depth): loss.mean for depth, loss in row
        }
        results.setdefault("slope", {})[name] = slopes[name][0][1] / slopes[name][-1][1]


def draw_chains(losses, slopes):
    """Gradients by place, losses by depth."""
    _, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    draw(left, slopes, "linear, from the input (of 24)", "gradient norm before training")
    means = {
        name: [(depth, loss.mean) for depth, loss in row] for name, row in losses.items()
    }
    draw(right, means, "linears", "training loss, nats")
    right.set_xscale("log")
    right.set_xticks(DEPTHS, DEPTHS)
    right.minorticks_off()


losses, slopes = by_depth(KINDS)
report(losses, slopes)
draw_chains(losses, slopes)


# %% attention
def attention(q, k, v, mask=None):
    """softmax(q k^T / sqrt(d_head)) v; mask: True = may attend."""
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1) @ v


torch.manual_seed(0)
q, k, v = torch.randn(3, 2, 10, 64).unbind()  # (batch, tokens, d_head) each
causal = torch.ones(10, 10, dtype=torch.bool).tril()
theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=causal)
difference = (attention(q, k, v, causal) - theirs).abs().max()
print(f"largest difference to torch's own: {difference:.1e}")
dots = q @ k.transpose(1, 2)
print(f"deviation of q.k: {dots.std():.2f}, divided by sqrt(64): {(dots / 8).std():.2f}")


# %% heads
class MultiHeadAttention(nn.Module):
    """Attentions side by side, each on its share of the features; an output projection."""

    def __init__(self, d_model, num_heads, dropout=0.0):
        super().__init__()
        self.num_heads, self.dropout = num_heads, nn.Dropout(dropout)
        self.q_proj, self.k_proj = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)
        self.v_proj, self.o_proj = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)

    def split(self, x):
        """(batch, tokens, d_model) to (batch, heads, tokens, d_head)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def forward(self, x, memory=None, mask=None):
        memory = x if memory is None else memory  # in section 9: another sequence
        q, k = self.split(self.q_proj(x)), self.split(self.k_proj(memory))
        v = self.split(self.v_proj(memory))
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        mixed = self.dropout(scores.softmax(-1)) @ v
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


def spread(x):
    """How far the tokens are from being all the same: |x - mean over tokens| / |x|."""
    return ((x - x.mean(1, keepdim=True)).norm() / x.norm()).item()


torch.manual_seed(0)
layers = [MultiHeadAttention(64, 4) for _ in range(12)]
curves = {}
with torch.no_grad():
    for name, skip in (("x = Attn(x)", 0.0), ("x = x + Attn(x)", 1.0)):
        x = torch.randn(4, 32, 64)
        curves[name] = [(0, spread(x))]
        for depth, layer in enumerate(layers, start=1):
            x = skip * x + layer(x)
            x = F.layer_norm(x, (64,))
            curves[name].append((depth, spread(x)))
results["spread"] = {
    "without": curves["x = Attn(x)"][-1][1],
    "with": curves["x = x + Attn(x)"][-1][1],
}
for name, points in curves.items():
    print(
        f"{name:16} after 1, 2, 12 layers: "
        f"{points[1][1]:.2g}, {points[2][1]:.2g}, {points[12][1]:.2g}"
    )
figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
draw(axes, curves, "attention layers", "distance from equal tokens")

# %% residual
skip_losses, skip_slopes = by_depth({"with the skip": {"skip": True}})
report(skip_losses, skip_slopes)
draw_chains({**losses, **skip_losses}, {**slopes, **skip_slopes})


# %% identity
def identity_error(skip, scale, seed):
    """How far eight fresh branches are from the identity: |net(x) - x| / |x|."""
    torch.manual_seed(seed)
    x = y = torch.randn(256, 64)
    with torch.no_grad():
        for _ in range(8):
            first, second = scale * torch.randn(2, 64, 64) * (2 / 64) ** 0.5
            update = (y @ first).relu() @ second
            y = y + update if skip else update
        return ((y - x).norm() / x.norm()).item()


for scale in (1.0, 0.3, 0.1, 0.0):
    plain, residual = (identity_error(skip, scale, 0) for skip in (False, True))
    print(f"weights times {scale}: plain {plain:.3f}, residual {residual:.3f}")
results["identity"] = {
    "plain": identity_error(False, 0.1, 0),
    "residual": identity_error(True, 0.1, 0),
}


# %% basic
def norm(x):
    """LayerNorm of fresh weights: gain one, bias zero."""
    return F.layer_norm(x, x.shape[-1:])


def post_ln(x, attn, ffn):
    y = norm(x + attn(x))
    return norm(y + ffn(y))


# %% places
def pre_ln(x, attn, ffn):
    y = x + attn(norm(x))
    return y + ffn(norm(y))


def single_skip(x, attn, ffn):
    return norm(x + ffn(attn(norm(x))))


def add_then_relu(x, attn, ffn):
    y = (x + attn(x)).relu()
    return (y + ffn(y)).relu()


PLACES = {
    "Post-LN": post_ln,
    "Pre-LN": pre_ln,
    "single skip": single_skip,
    "add, then ReLU": add_then_relu,
}


def make_ffn(d_model):
    """W2 relu(W1 x)."""
    return nn.Sequential(
        nn.Linear(d_model, 4 * d_model), nn.ReLU(), nn.Linear(4 * d_model, d_model)
    )


def through(layer, depth=24, d_model=64):
    """The stream after each of `depth` fresh layers, and the norm of its gradient."""
    torch.manual_seed(0)
    parts = [(MultiHeadAttention(d_model, 4), make_ffn(d_model)) for _ in range(depth)]
    for part in [part for pair in parts for part in pair]:
        for weight in part.parameters():
            if weight.dim() == 2:
                nn.init.xavier_normal_(weight)
    states = [torch.randn(8, 16, d_model, requires_grad=True)]
    for attn, ffn in parts:
        states.append(layer(states[-1], attn, ffn))
    loss = (norm(states[-1]) * torch.randn(8, 16, d_model)).sum()
    slopes = [gradient.norm().item() for gradient in torch.autograd.grad(loss, states)]
    return states, slopes


sizes, falls, negative = {}, {}, {}
for name, layer in PLACES.items():
    states, norms = through(layer)
    rms = [state.square().mean().sqrt().item() for state in states]
    sizes[name] = list(enumerate(rms))[::2]
    falls[name] = list(enumerate(norms))[::2]
    negative[name] = (states[-1] < 0).float().mean().item()
    print(
        f"{name:15} RMS after 24 layers {rms[-1]:8.2f},"
        f" gradient first / last {norms[0] / norms[-1]:8.2g},"
        f" negative entries {negative[name]:.0%}"
    )
results["places"] = {
    name: {
        "rms": sizes[name][-1][1],
        "fall": falls[name][0][1] / falls[name][-1][1],
        "negative": negative[name],
    }
    for name in PLACES
}
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
draw(left, sizes, "layer", "RMS of the stream, before training")
draw(right, falls, "layer", "gradient norm, before training")

# %% language
works = shakespeare.load()
bytes_of = {
    name: torch.tensor(list("".join(work.text for work in part).encode()))
    for name, part in (("train", works.train), ("validation", works.validation))
}


def batch(split, generator, size=8, context=32):
    """Rows of bytes and the bytes that follow them."""
    text = bytes_of[split]
    starts = torch.randint(len(text) - context - 1, (size,), generator=generator).tolist()
    rows = torch.stack([text[i : i + context + 1] for i in starts])
    return rows[:, :-1], rows[:, 1:]


def learn(scheme, seed, num_layers=4, count=150):
    """A small language model of Shakespeare's bytes, after some steps of AdamW."""
    model = addnorm.Transformer(
        scheme, vocab_size=256, d_model=32, num_heads=2, num_layers=num_layers, seed=seed
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    order = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # of dropout
    count = steps(count)
    for step in range(count):
        optimizer.param_groups[0]["lr"] = 4e-3 * min(1, (step + 1) / (0.3 * count))
        tokens, following = batch("train", order)
        loss = F.cross_entropy(model(tokens).flatten(0, 1), following.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


@torch.no_grad()
def losses_of(model, rows=32):
    """Validation loss, nats a byte: of whole rows; of each byte from those before it."""
    tokens, following = batch("validation", torch.Generator().manual_seed(1), rows)
    whole = F.cross_entropy(model(tokens).flatten(0, 1), following.flatten())
    honest = [
        F.cross_entropy(model(tokens[:, :end])[:, -1], following[:, end - 1])
        for end in range(1, tokens.shape[1] + 1)
    ]
    return whole.item(), torch.stack(honest).mean().item()


# %% dropout
class SkipDropout(addnorm.Connection):
    """Pre-LN with dropout on the branch alone, or on the sum and with it on the skip."""

    def __init__(self, d_model, p, on_skip):
        super().__init__()
        self.norm, self.p, self.on_skip = nn.LayerNorm(d_model), p, on_skip

    def read(self, state):
        return self.norm(state), state

    def write(self, skip, update):
        if self.on_skip:
            return F.dropout(skip + update, self.p, self.training)
        return skip + F.dropout(update, self.p, self.training)


@dataclass(frozen=True, kw_only=True)
class WithDropout(addnorm.Scheme):
    """Pre-LN: x <- x + drop(F(n(x))), or x <- drop(x + F(n(x)))."""

    p: float = 0.1
    on_skip: bool = False

    def connection(self, d_model, site):
        return SkipDropout(d_model, self.p, self.on_skip)


torch.manual_seed(0)
x = torch.ones(100_000)
for sublayer in range(1, 25):
    x = F.dropout(x, 0.1)
    if sublayer in (8, 24):
        left = (x > 0).float().mean()
        print(
            f"after {sublayer:2} skips with dropout 0.1: {left:.3f} left,"
            f" predicted {0.9**sublayer:.3f}"
        )
results["left"] = (x > 0).float().mean().item()
on, off = {}, {}
for seed in range(min(SEEDS, 3)):
    on[seed], _ = losses_of(learn(WithDropout(on_skip=True), seed))
    off[seed], _ = losses_of(learn(WithDropout(), seed))
results["dropout"] = {
    "on the branch": with_interval(estimate([*off.values()])),
    "on the skip": with_interval(estimate([*on.values()])),
    "difference": with_interval(paired_difference(on, off), signed=True),
}
for name, value in results["dropout"].items():
    print(f"validation loss after training 4 layers, {name}: {value}")


# %% layernorm
def layer_norm(x, gain, bias, eps=1e-5):
    """(x - mean) / sqrt(variance + eps) * gain + bias, over the features of each token."""
    mean = x.mean(-1, keepdim=True)
    variance = (x - mean).square().mean(-1, keepdim=True)  # divided by d, not by d - 1
    return (x - mean) / (variance + eps).sqrt() * gain + bias


torch.manual_seed(0)
x, theirs = torch.randn(2, 5, 64), nn.LayerNorm(64)
difference = (layer_norm(x, theirs.weight, theirs.bias) - theirs(x)).abs().max().item()
print(f"largest difference to nn.LayerNorm: {difference:.1e}")
print(f"{x[0].mean(-1).numel()} means for a sequence of 5 tokens: one a token")


# %% sequence
def over_the_sequence(x, eps=1e-5):
    """What LayerNorm is not: mean and variance over the tokens (dim=1)."""
    mean = x.mean(1, keepdim=True)
    return (x - mean) / ((x - mean).square().mean(1, keepdim=True) + eps).sqrt()


changed = x.clone()
changed[:, -1] = torch.randn(64)  # the last token alone
kinds = {"over the features": norm, "over the sequence": over_the_sequence}
for name, function in kinds.items():
    moved = (function(changed) - function(x))[:, 0].abs().max().item()
    alone = function(x[:, :1]).abs().max().item()
    print(
        f"{name}: the first token's output moves by {moved:.3f};"
        f" the largest output of a token alone is {alone:.3f}"
    )
    results.setdefault("leak", {})[name] = moved


class SequenceNorm(nn.Module):
    """The wrong norm as a module."""

    def forward(self, x):
        return over_the_sequence(x)


@dataclass(frozen=True, kw_only=True)
class Wrong(addnorm.Scheme):
    """Pre-LN with a norm over the sequence."""

    def connection(self, d_model, site):
        connection = SkipDropout(d_model, 0.0, False)
        connection.norm = SequenceNorm()
        return connection


for name, scheme in (("features", WithDropout(p=0.0)), ("sequence", Wrong())):
    values = [losses_of(learn(scheme, seed)) for seed in range(min(SEEDS, 3))]
    seen, honest = (with_interval(estimate(column)) for column in zip(*values))
    print(
        f"norm over the {name}: loss with the whole row {seen},"
        f" with the bytes before alone {honest}"
    )
    results[f"norm over {name}"] = {"whole": seen, "honest": honest}

# %% feedforward
ffn = make_ffn(64)
swapped = torch.tensor([1, 0, 2, 3, 4])
same = torch.allclose(ffn(x[:, swapped]), ffn(x)[:, swapped], atol=1e-6)
print("a token's output depends on that token alone:", same)
in_attention = sum(p.numel() for p in MultiHeadAttention(64, 4).parameters())
in_ffn = sum(p.numel() for p in ffn.parameters())
print(f"parameters at width 64: attention {in_attention}, feed-forward {in_ffn}")


# %% block
class FeedForward(nn.Module):
    """W2 relu(W1 x + b1) + b2, four times as wide within."""

    def __init__(self, d_model):
        super().__init__()
        self.fc1 = nn.Linear(d_model, 4 * d_model)
        self.fc2 = nn.Linear(4 * d_model, d_model)

    def forward(self, x):
        return self.fc2(self.fc1(x).relu())


class TransformerBlock(nn.Module):
    """y = x + drop(Attn(LN(x))), z = y + drop(FFN(LN(y))).

    src is (batch, tokens, d_model); in the mask True = may attend.
    """

    def __init__(self, d_model, num_heads, dropout=0.1):
        super().__init__()
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = MultiHeadAttention(d_model, num_heads, dropout)
        self.feedforward_norm = nn.LayerNorm(d_model)
        self.feedforward = FeedForward(d_model)
        self.dropout = nn.Dropout(dropout)  # on the branches, never on the skip

    def forward(self, src, mask=None):
        src = src + self.dropout(self.attention(self.attention_norm(src), mask=mask))
        return src + self.dropout(self.feedforward(self.feedforward_norm(src)))


torch.manual_seed(0)
ours, theirs = TransformerBlock(64, 4).eval(), addnorm.TransformerBlock(64, 4).eval()
ours.load_state_dict(theirs.state_dict())
src, mask = torch.randn(2, 10, 64), torch.ones(10, 10, dtype=torch.bool).tril()
for name, module in (("here", ours), ("addnorm", theirs)):
    first = module(src, mask)[0, 0, :6].tolist()
    print(f"{name:8}", " ".join(f"{value:.5f}" for value in first))
for given in (mask, None):
    print(f"largest difference: {(ours(src, given) - theirs(src, given)).abs().max():.1e}")
later = src.clone()
later[:, 7] = torch.randn(64)
for name, given in (("masked", mask), ("no mask", None)):
    moved = (ours(later, given) - ours(src, given)).abs().amax((0, 2)).tolist()
    print(
        f"token 7 changed, {name:7}: earlier tokens move by {max(moved[:7]):.2g},"
        f" later ones by {max(moved[8:]):.2g}"
    )

# %% mistakes
torch.manual_seed(0)
try:
    nn.MultiheadAttention(64, 4)(src, src, src, mask=mask)
except TypeError as error:
    print("TypeError:", error)
try:
    nn.TransformerEncoderLayer(64, 4)(src, mask=mask)
except TypeError as error:
    print("TypeError:", error)

other = src.clone()
other[1] = torch.randn(10, 64)  # another sequence of the batch
for batch_first in (False, True):
    layer = nn.MultiheadAttention(64, 4, batch_first=batch_first).eval()
    difference = layer(other, other, other)[0] - layer(src, src, src)[0]
    moved = difference[0].abs().max().item()
    print(f"batch_first={batch_first}: sequence 0 moves by {moved:.2f} with sequence 1")

for name, given in (("mask", mask), ("~mask", ~mask)):
    output = layer(src, src, src, attn_mask=given)[0]
    difference = layer(later, later, later, attn_mask=given)[0] - output
    moved = difference[:, :7].nan_to_num().abs().max().item()
    print(f"attn_mask={name}: earlier tokens move by {moved:.2f} with token 7,", end=" ")
    print(f"{output.isnan().any(-1).sum()} of 20 outputs are NaN")


# %% decoder
class DecoderLayer(nn.Module):
    """y = LN(x + Self(x)), z = LN(y + Cross(y, memory)), LN(z + FFN(z))."""

    def __init__(self, d_model, num_heads):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, num_heads)
        self.cross_attention = MultiHeadAttention(d_model, num_heads)
        self.feedforward = FeedForward(d_model)
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(3))

    def forward(self, x, memory, mask):
        y = self.norms[0](x + self.self_attention(x, mask=mask))
        z = self.norms[1](y + self.cross_attention(y, memory))
        return self.norms[2](z + self.feedforward(z))


print(DecoderLayer(64, 4)(src, torch.randn(2, 6, 64), mask).shape)

# %% reverse
START, LETTERS, LENGTH = 0, 27, 6


def words(count, seed):
    """Random words of six letters."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, LETTERS, (count, LENGTH), generator=generator)


shape = {"vocab_size": LETTERS, "d_model": 64, "num_heads": 4, "num_layers": 1}
model = addnorm.EncoderDecoder("pre-norm", **shape, position="learned", seed=0)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(steps(400)):
    source = words(64, step)
    target = source.flip(1)
    given = F.pad(target[:, :-1], (1, 0), value=START)
    loss = F.cross_entropy(model(source, given).flatten(0, 1), target.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

source = words(200, 10**6)
written = torch.full((200, 1), START)
model.eval()
with torch.no_grad():
    for _ in range(LENGTH):
        written = torch.cat((written, model(source, written)[:, -1:].argmax(-1)), 1)
right = (written[:, 1:] == source.flip(1)).all(1).float().mean().item()
for word in (source[0], written[0, 1:]):
    print("".join(chr(96 + letter) for letter in word.tolist()))
print(f"{right:.0%} of 200 new words are reversed without a fault")
results["reversed"] = right


# %% compare
def numbers(stored):
    """A stored mean with its interval; a run that diverged has no finite one."""
    return Estimate(**{**stored, "mean": float(stored["mean"])})


def compared(name, **choices):
    """A comparison; one line an arm: loss, paired difference to the baseline, verdict."""
    budget = {"seeds": SEEDS, "steps": steps(150), "evaluations": 2, "signals": 1}
    found, rows = addnorm.compare(FOLDER / name, **budget, **choices), {}
    for arm in found["arms"]:
        loss = numbers(arm["validation_loss"])
        difference = numbers(arm["difference"]) if arm["difference"] else None
        beside = with_interval(difference, signed=True) if difference else ""
        said = {
            "loss": with_interval(loss),
            "difference": beside,
            "verdict": arm["verdict"],
        }
        rows[f"{arm['scheme']} {arm['layers']}"] = said
        print(f"{arm['layers']:2} layers  {arm['scheme']:20}", end=" ")
        print(f"{said['loss']:22} {beside:23} {arm['verdict']}")
    results[name] = rows
    return found


def by_layers(found):
    """Loss by depth, for every scheme."""
    curves = {}
    for arm in found["arms"]:
        point = (arm["layers"], float(arm["validation_loss"]["mean"]))
        curves.setdefault(arm["scheme"], []).append(point)
    return curves


schemes = ("pre-norm", "plain", "post-norm", "resnet-add")
placed = compared("places-compared", schemes=schemes, layers=(1, 2, 4, 8))
results["unigram"] = placed["data"]["unigram_entropy"]
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
draw(axes, by_layers(placed), "layers", "validation loss, nats a byte", log=False)
axes.axhline(results["unigram"], color="#5a6169", linewidth=0.8)
axes.text(4.2, results["unigram"], "frequency of each byte alone", va="top")
axes.legend(loc="lower right", ncols=2, frameon=False)
_ = axes.set_ylim(bottom=2.5)

# %% single
schemes = ("pre-norm", "pre-post-norm")
composed = compared("composed", schemes=schemes, arrangement="composed", layers=(2, 8))

# %% norms
schemes = ("pre-norm", "pre-norm(norm=batch)")
cases = {
    "text, 8 rows a step": {"batch_size": 8},
    "text, 1 row a step": {"batch_size": 1},
    "digits, 32 images a step": {"task": "image-classification", "data": "digits"},
}
for name, choices in cases.items():
    print(name)
    compared(name, schemes=schemes, layers=(2,), **{"batch_size": 32, **choices})
