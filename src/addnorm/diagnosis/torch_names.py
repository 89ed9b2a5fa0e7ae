"""Functions of torch by what they do to a vector; an "i" or an "r" in front is that of `+=` and of `__radd__`."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The same numbers, elsewhere or under another type.
SAME = _words(
    "view view_as reshape reshape_as unsqueeze squeeze expand expand_as broadcast_to contiguous transpose permute "
    "swapaxes swapdims movedim moveaxis flatten unflatten to float half bfloat16 double type type_as clone detach "
    "dropout feature_dropout alpha_dropout getitem narrow select chunk split tensor_split unbind index_select get "
    "identity positive cpu cuda alias repeat tile repeat_interleave roll flip pad t masked_fill imasked_fill "
    "requires_grad split_with_sizes diagonal gather take_along_dim"
)
SUMS = _words(
    "add iadd radd sub isub rsub subtract cat concat concatenate stack hstack vstack where setitem index_copy "
    "index_add scatter scatter_add masked_scatter lerp copy"
)
CASTS = _words("to type type_as float half bfloat16 double")
MERGES = _words("cat concat concatenate stack")
PLAIN_SUMS = _words("add iadd radd sub isub subtract addcmul")
SCALINGS = _words("mul imul rmul multiply div idiv truediv itruediv divide neg addcmul")
DIVISIONS = _words("div idiv truediv itruediv divide")
REDUCTIONS = _words("sum mean")
MIXINGS = _words("matmul rmatmul bmm mm einsum baddbmm tensordot")
NORMS = _words("layer_norm rms_norm group_norm instance_norm batch_norm normalize")
STATISTICS = NORMS | _words("rsqrt sqrt norm linalg_norm vector_norm linalg_vector_norm std var")
WEIGHINGS = _words("softmax sigmoid matmul scaled_dot_product_attention")
ATTENTIONS = _words("scaled_dot_product_attention multi_head_attention_forward flex_attention")
GATES = _words("sigmoid tanh softmax")
CURVED = _words("relu gelu silu tanh sigmoid softmax elu leaky_relu mish erf swish softplus hardtanh")
OVER_TOKENS = _words("conv1d conv2d cumsum fft rfft scan associative_scan matmul bmm einsum gather")
