"""Nested lists, tuples and dicts of tensors and plain values: copied, or taken apart into JSON and tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tithe.errors import InvalidDTypeError

__all__ = ["copied", "put_together", "taken_apart"]

_TENSOR, _TUPLE, _DICT = "$tensor", "$tuple", "$dict"  # for what JSON has not


def copied(tree: Any, place: str, device: torch.device | None = None) -> Any:
    """The same with memory of its own.

    Args:
        tree: lists, tuples and dicts (by str or int) of tensors, ``None``, bool, int, float and str.
        place: what to call it in a message.
        device: where tensors go; ``None`` leaves them where they are.

    Returns:
        The copy. Raises ``InvalidDTypeError`` for anything else, saying where it is. O(entries).

    >>> copied({"a": (torch.ones(1), 2)}, "it")
    {'a': (tensor([1.]), 2)}
    """
    if isinstance(tree, Tensor):
        return tree.detach().to(device, copy=True)
    if type(tree) in (list, tuple):
        return type(tree)(copied(value, f"{place}[{index}]", device) for index, value in enumerate(tree))
    if type(tree) is dict and all(isinstance(key, str | int) for key in tree):
        return {key: copied(value, f"{place}[{key!r}]", device) for key, value in tree.items()}
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise InvalidDTypeError(
        f"{place} is a {type(tree).__qualname__}; only tensors, plain values, and lists, tuples and dicts of these can "
        "be kept"
    )


def taken_apart(tree: Any, tensors: list[Tensor]) -> Any:
    """What JSON can hold of a tree as for ``copied``, with the numbers of tensors, which are added to a list. O(size).

    >>> taken_apart({"a": (torch.ones(1), 2)}, [])
    {'a': {'$tuple': [{'$tensor': [0, 'torch.float32', [1]]}, 2]}}
    """
    if isinstance(tree, Tensor):
        tensors.append(tree)
        return {_TENSOR: [len(tensors) - 1, str(tree.dtype), list(tree.shape)]}
    if isinstance(tree, list | tuple):
        values = [taken_apart(value, tensors) for value in tree]
        return {_TUPLE: values} if isinstance(tree, tuple) else values
    if not isinstance(tree, dict):
        return tree
    found = {key: taken_apart(value, tensors) for key, value in tree.items()}
    plain = all(isinstance(key, str) and not key.startswith("$") for key in found)
    return found if plain else {_DICT: [[key, value] for key, value in found.items()]}


def put_together(tree: Any, tensors: Sequence[Tensor]) -> Any:
    """The tree that ``taken_apart`` was given; ``ValueError`` where a tensor is another one. O(size).

    >>> tensors = []
    >>> put_together(taken_apart({1: (torch.ones(1), 2)}, tensors), tensors)
    {1: (tensor([1.]), 2)}
    """
    if isinstance(tree, list):
        return [put_together(value, tensors) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if tree.keys() == {_TUPLE}:
        return tuple(put_together(value, tensors) for value in tree[_TUPLE])
    if tree.keys() == {_DICT}:
        return {key: put_together(value, tensors) for key, value in tree[_DICT]}
    if tree.keys() != {_TENSOR}:
        return {key: put_together(value, tensors) for key, value in tree.items()}
    number, dtype, shape = tree[_TENSOR]
    found = tensors[number]
    if (str(found.dtype), list(found.shape)) != (dtype, shape):
        raise ValueError(f"tensor {number} is {found.dtype} {list(found.shape)} and should be {dtype} {shape}")
    return found
