"""Pictures whose pixels know nothing of each other: the trivial answer of image generation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from addnorm.data.pictures.image_splits import Images

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

ADDED = 0.1
"""Added to each count of a level: 4.194 bits a pixel on Fashion-MNIST's validation images, 4.203 with 0.01."""


def quantised(pixels: UInt8[Tensor, "*shape"], levels: int) -> Int[Tensor, "*shape"]:
    """Bytes as grey levels: `floor(pixel * levels / 256)`."""
    return pixels.long() * levels // 256


def pixels_of_levels(levels: Int[Tensor, "*shape"], count: int) -> UInt8[Tensor, "*shape"]:
    """Grey levels as bytes, the darkest 0 and the lightest 255; the pixels themselves where there are 256 levels."""
    return (levels * 255 / (count - 1)).round().to(torch.uint8)


def independent_nats(train: Images, chosen: Images, levels: int) -> float:
    """Nats a pixel under `prod_k p_k(level_k | class)`, p the training pictures' counts plus a small number each."""
    total = 0.0
    seen = quantised(_flat(train), levels)
    wanted = quantised(_flat(chosen), levels)
    of_train, of_chosen = torch.from_numpy(train.labels.copy()), torch.from_numpy(chosen.labels.copy())
    for label in of_chosen.unique():
        counts = _counts(seen[of_train == label], levels)
        nats = -(counts / counts.sum(0)).log()
        total += nats.gather(0, wanted[of_chosen == label]).sum().item()
    return total / wanted.numel()


def independent_samples(
    train: Images, labels: Int[Tensor, "batch"], generator: torch.Generator
) -> UInt8[Tensor, "batch height width channels"]:
    """Pictures each of whose pixels is that of a training picture of the class, drawn for itself."""
    pixels, of_train = _flat(train), torch.from_numpy(train.labels.copy())
    made = torch.empty(len(labels), pixels.shape[1], dtype=torch.uint8)
    for label in labels.unique():
        own = pixels[of_train == label]
        rows = int((labels == label).sum())
        drawn = torch.randint(len(own), (rows, own.shape[1]), generator=generator)
        made[labels == label] = own.gather(0, drawn)
    return made.reshape(-1, *train.pixels.shape[1:])


def variances(train: Images) -> Float[Tensor, "pixels"]:
    """Of each pixel, as a number from -1 to 1, over the training pictures."""
    return (_flat(train).float() / 127.5).var(0)


def _counts(seen: Int[Tensor, "rows pixels"], levels: int) -> Float[Tensor, "levels pixels"]:
    ones = torch.ones((), dtype=torch.float64).expand(seen.shape)
    return torch.full((levels, seen.shape[1]), ADDED, dtype=torch.float64).scatter_add(0, seen, ones)


def _flat(images: Images) -> UInt8[Tensor, "rows pixels"]:
    return torch.from_numpy(images.pixels.reshape(len(images), -1).copy())
