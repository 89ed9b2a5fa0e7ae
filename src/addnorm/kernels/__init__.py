"""Fused operations, each beside the plain reference it must equal in value and in gradient.

Each is a `torch.autograd.Function` with a hand-written backward, which does the same work in fewer and larger
operations and keeps less for it. Under `torch.compile` its forward is traced as it stands and the compiler derives
the backward, so that compiled and eager values are equal to the bit. Derivatives of derivatives, and those of
`torch.func`, are taken of the formula: see `derivatives`.
"""
