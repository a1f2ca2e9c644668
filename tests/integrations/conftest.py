import os

import pytest
import torch
from torch import Tensor

from tithe.data import load

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here needs the network


@pytest.fixture(scope="session")
def digits() -> tuple[Tensor, Tensor]:
    """Real images (n, 8, 8) from 0 to 1, and their classes."""
    train_x, train_y, _, _ = load("digits")
    return torch.from_numpy(train_x[:96]).float() / 16, torch.from_numpy(train_y[:96])
