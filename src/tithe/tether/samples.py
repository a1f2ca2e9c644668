"""The samples of a population's members: read from files, split, and told apart by a checksum."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tithe.errors import CorruptFileError, InvalidValueError
from tithe.tether.config import Member
from tithe.tether.text_files import read_numbers

__all__ = ["Samples", "checksum", "read_member", "split"]


@dataclass(frozen=True)
class Samples:
    """One member's samples: inputs (n, features) float32 and labels (n,) int64, those that it trains on and others."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


def read_member(member: Member, features: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs (n, features) and labels (n,) of a member.

    Raises ``CorruptFileError`` for a malformed file and ``InvalidValueError`` where the two do not go together.
    """
    y = _numbers(Path(member.labels), (-1,), torch.int64)
    x = _numbers(Path(member.inputs), (len(y), features or -1), torch.float32).flatten(1)
    if len(x) != len(y) or len(y) < 2:
        raise InvalidValueError(
            f"member {member.name!r} has {len(x)} inputs and {len(y)} labels; give two or more of both"
        )
    if int(y.min()) < 0:
        raise InvalidValueError(f"member {member.name!r} has the label {int(y.min())}; use 0 to classes − 1")
    return x, y


def split(x: Tensor, y: Tensor, held_out: float, seed: int) -> Samples:
    """Shuffled samples, of which some are held out, in units of the others' mean and spread. O(entries)."""
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    count = min(round(held_out * len(y)), len(y) - 1)
    asked, kept = order[:count], order[count:]
    mean, spread = x[kept].mean(0), x[kept].std(0)
    x = (x - mean) / torch.where(spread > 0, spread, 1.0)
    return Samples(x[kept], y[kept], x[asked], y[asked])


def checksum(x: Tensor, y: Tensor) -> str:
    """The first 16 digits of the SHA-256 of inputs and labels. O(bytes)."""
    digest = hashlib.sha256(repr((x.shape, y.shape)).encode())
    for tensor in (x, y):
        digest.update(np.ascontiguousarray(tensor.numpy()).data)
    return digest.hexdigest()[:16]


def _numbers(path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if path.suffix != ".npy":
        return read_numbers(path, shape, dtype=dtype)
    try:
        found = np.load(path, allow_pickle=False)
        return torch.from_numpy(found).to(dtype).reshape(shape)
    except (ValueError, TypeError, EOFError, RuntimeError) as error:
        raise CorruptFileError(f"{path} holds no numbers of shape {shape}: {error}") from error
