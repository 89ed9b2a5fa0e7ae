"""Triton kernels for GPUs: checked in Triton's interpreter and compiled for sm_90, never run or timed on a GPU."""
