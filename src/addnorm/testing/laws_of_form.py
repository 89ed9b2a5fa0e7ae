"""What every residual scheme must do as a piece of software: start, store, cast, compile.

As in `laws.py`, each law takes a scheme and none names one.
"""

from __future__ import annotations

import copy
import pickle
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch._dynamo.testing import CompileCounter
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._pytree import tree_structure

from addnorm import schemes
from addnorm.kernels import native
from addnorm.layers.cache import KVCache
from addnorm.layers.context import Context
from addnorm.layers.initialise import initialise_
from addnorm.layers.inside import Inside
from addnorm.layers.views import views_of
from addnorm.models.decoder import Transformer
from addnorm.residual import Scheme
from addnorm.testing.small_models import (
    blocks,
    leaves,
    moved,
    noise_like,
    own_parameters,
    small,
    states,
    surroundings,
    tokens,
)

# --- how it starts


def same_seed_gives_the_same_sublayers(scheme: Scheme) -> None:
    """Under any scheme a seed draws the same weights; what the scheme then rescales stays proportional to them."""
    yardstick = own_parameters(small(schemes.get("pre-norm")()))
    model = small(scheme)
    for path, parameter in own_parameters(model).items():
        drawn = yardstick[path]
        # As a whole, row by row, or column by column.
        along = [tuple(range(drawn.dim())), *([(1,), (0,)] if drawn.dim() == 2 else [])]
        assert any(_proportional(parameter, drawn, dims) for dims in along), f"{path} is not proportional"
    initialise_(model, 0, model.config.init)
    for path, parameter in own_parameters(model).items():
        assert torch.equal(parameter, yardstick[path]), f"{path} is drawn from something else than seed and path"


def _proportional(parameter: torch.Tensor, drawn: torch.Tensor, dims: tuple[int, ...]) -> bool:
    products, squares = parameter * drawn, drawn.square()
    factor = products.sum(dims, keepdim=True) / squares.sum(dims, keepdim=True).clamp_min(1e-30)
    # The tolerances of torch.testing for float32.
    return torch.allclose(parameter, factor * drawn, rtol=1.3e-6, atol=1e-5)


def a_meta_build_equals_a_direct_one(scheme: Scheme) -> None:
    """Built without memory and filled afterwards, a model has the same parameters, buffers and logits."""
    direct = small(scheme)
    with torch.device("meta"):
        model = small(scheme)
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    model.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.fill_(float("nan"))  # to_empty may find zeros in memory
    model.initialise_(0)
    for one, two in zip(_tensors(model), _tensors(direct), strict=True):
        assert one[0] == two[0]
        assert torch.equal(one[1], two[1]), one[0]
    assert torch.equal(model(tokens()), direct(tokens()))


def _tensors(model: Transformer) -> list[tuple[str, torch.Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


# --- how it is stored


def weights_and_recipe_round_trip(scheme: Scheme) -> None:
    """The scheme comes back from its text, and the model from that and a safetensors file."""
    again = schemes.parse(schemes.format(scheme))
    assert again == scheme
    assert schemes.format(again) == schemes.format(scheme)
    model, stored = moved(scheme), small(again, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        save_file(model.state_dict(), Path(folder) / "model.safetensors")
        stored.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    assert torch.equal(model(tokens()), stored(tokens()))


def copies_and_pickles_are_equal_and_separate(scheme: Scheme) -> None:
    """A deep copy and a pickle compute the same, and share no weight with the original."""
    assert pickle.loads(pickle.dumps(scheme)) == copy.deepcopy(scheme) == scheme
    model = moved(scheme)
    logits = model(tokens())
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(tokens()), logits)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.fill_(0.0)
    assert torch.equal(model(tokens()), logits)


# --- in which precision


def bfloat16_stays_bfloat16(scheme: Scheme) -> None:
    """A model cast to bfloat16 keeps every state, and its logits, in bfloat16."""
    model = moved(scheme).to(torch.bfloat16)
    for state in states(model, tokens()):
        assert {leaf.dtype for leaf in leaves(state)} == {torch.bfloat16}
        assert model.stack.exit(state).dtype == torch.bfloat16
    logits = model(tokens())
    assert logits.dtype == torch.bfloat16
    assert logits.isfinite().all()


def autocast_leaves_connections_in_float32(scheme: Scheme) -> None:
    """Under bfloat16 autocast a connection does to a float32 state bit for bit what it does without."""
    model = moved(scheme)
    for block, state in zip(blocks(model), states(model, tokens()), strict=False):
        outcomes = []
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                x, skip = block.connection.read(state)
                outcomes.append([*leaves(x), *leaves(block.connection.write(skip, noise_like(views_of(x).query)))])
        for plain, cast in zip(*outcomes, strict=True):
            assert cast.dtype == torch.float32
            assert torch.equal(plain, cast)


# --- how it compiles


def every_block_compiles_whole(scheme: Scheme) -> None:
    """Without a graph break, equal to eager, and with few graphs: one a kind of sublayer and structure of the state.

    And two more: a number that differs between sites is a constant in a kind's first graph, an input in the next.
    Eager is torch's path here, the one that is traced; C++ kernels agree with it to rounding only. A sublayer that the
    scheme neither builds parts into nor gives views to is the same under all: `test_decoder.py` compiles it, once.
    """
    model, ids = moved(scheme, num_layers=3), tokens()
    with native.switched(False):
        found = states(model, ids)
    torch._dynamo.reset()
    one_way, other_way = surroundings(ids), surroundings(ids)  # each keeps what its own sublayers pass on
    counter, kinds = CompileCounter(), set()
    for site, block, state in zip(model.stack.sites, blocks(model), found, strict=False):
        kinds.add((type(block.sublayer), str(tree_structure(state))))
        if scheme.inside(site) == Inside() and isinstance(block.connection.read(state)[0], torch.Tensor):
            block.sublayer = AnySublayer()
        with native.switched(False):
            eager = block(state, one_way)
        compiled = torch.compile(block, fullgraph=True, backend=counter)(state, other_way)
        for one, two in zip(leaves(compiled), leaves(eager), strict=True):
            assert torch.equal(one, two)
    assert counter.frame_count <= len(kinds) + 2


class AnySublayer(torch.nn.Module):
    """In the place of one that is compiled elsewhere."""

    def forward(self, x: torch.Tensor, context: Context) -> torch.Tensor:
        return x.sin()


def weights_loaded_into_a_meta_build_are_all_it_needs(scheme: Scheme) -> None:
    """Built without memory, then loaded (through `to_empty`, or by assignment): the same logits, to the bit."""
    source = moved(scheme)
    for assign in (False, True):
        with torch.device("meta"):
            model = small(scheme)
        if not assign:
            model.to_empty(device="cpu")
            with torch.no_grad():
                for tensor in (*model.parameters(), *model.buffers()):
                    tensor.fill_(float("nan") if tensor.is_floating_point() else 10**6)  # what lies in memory
        model.load_state_dict(source.state_dict(), assign=assign)
        assert torch.equal(model(tokens()), source(tokens()))


def a_hook_at_all_modules_sees_all_that_are_called(scheme: Scheme) -> None:
    """A global hook is told of the same calls as hooks at every module, in the forward and in cached decoding."""
    model = moved(scheme)
    calls = []
    for everywhere in (False, True):
        seen: list[str] = []
        names = {module: name for name, module in model.named_modules()}

        def told(module: torch.nn.Module, *_: object, seen: list = seen, names: dict = names) -> None:
            if module in names:
                seen.append(names[module])

        handles = (
            [register_module_forward_hook(told)]
            if everywhere
            else [module.register_forward_hook(told) for module in model.modules()]
        )
        cache = KVCache()
        with torch.no_grad():
            model(tokens())
            model(tokens()[:, :2], cache=cache)
            model(tokens()[:, 2:3], cache=cache)
        for handle in handles:
            handle.remove()
        calls.append(sorted(seen))
    assert calls[0] == calls[1]
    # Blocks, sublayers, linear layers and norms stand among them; a connection's read and write are no calls.
    assert {"stack.blocks.1", "stack.blocks.1.sublayer.fc1", "stack.exit"} <= set(calls[1])


def what_swaps_linear_layers_finds_them(scheme: Scheme) -> None:
    """Replaced one by one by exact type, as quantisation and adapters do, each is called."""
    model = moved(scheme)
    expected, called = model(tokens()), []

    class Counted(torch.nn.Module):
        def __init__(self, inner: torch.nn.Linear) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            called.append(self)
            return self.inner(x)

    swapped = []
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Linear and not isinstance(parent, Counted):
                setattr(parent, name, Counted(child))
                swapped.append(getattr(parent, name))
    assert len(swapped) >= 12  # two layers of four projections of an attention and two of a feed-forward
    torch.testing.assert_close(model(tokens()), expected)
    assert {id(one) for one in called} == {id(one) for one in swapped}
