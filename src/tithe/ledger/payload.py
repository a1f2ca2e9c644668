"""Payloads as JSON text and back, without loss: what JSON cannot say is refused or, for NaN and ±∞, tagged."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from tithe.errors import InvalidDTypeError, InvalidValueError

__all__ = ["decode_payload", "encode_payload"]

_TAG = "$float"  # JSON has no NaN; null would say "not measured" of a loss that diverged


def encode_payload(payload: Mapping[str, Any]) -> str:
    """The payload as strict JSON text.

    Args:
        payload: a mapping from strings to JSON values: None, bool, int, float, str, and lists, tuples or mappings of
            these. A tuple comes back as a list. NaN and ±∞ come back as such; in the text they stand as
            ``{"$float": "nan"}``, so that every JSON reader can read it.

    Returns:
        The text. Raises ``InvalidDTypeError``, with the place and the type, for anything else, and
        ``InvalidValueError`` for the reserved key ``$float`` and for values nested too deep or in a circle. O(size).

    >>> encode_payload({"loss": float("nan"), "step": 3})
    '{"loss":{"$float":"nan"},"step":3}'
    """
    if not isinstance(payload, Mapping):
        raise InvalidDTypeError(f"the payload is a {type(payload).__name__}; pass a dict of JSON values")
    try:
        return json.dumps(_plain(payload, "payload"), allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise InvalidValueError("the payload contains itself, or is nested too deep; flatten it") from None


def decode_payload(text: str) -> dict[str, Any]:
    """The payload that ``encode_payload`` wrote; ``ValueError`` for text that it cannot have written. O(size).

    >>> decode_payload('{"loss":{"$float":"nan"},"step":3}')
    {'loss': nan, 'step': 3}
    """
    payload = json.loads(text, object_hook=_untagged)
    if not isinstance(payload, dict):
        raise ValueError(f"the payload is a {type(payload).__name__}, not an object")
    return payload


def _plain(value: Any, place: str) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {_TAG: repr(float(value))}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {_key(key, place): _plain(item, f"{place}[{key!r}]") for key, item in value.items()}
    raise InvalidDTypeError(
        f"{place} is a {type(value).__module__}.{type(value).__qualname__}, which JSON cannot hold; "
        "pass None, bool, int, float, str, list or dict (an array's `.tolist()`, a receipt's `.to_dict()`)"
    )


def _key(key: object, place: str) -> str:
    if not isinstance(key, str):
        raise InvalidDTypeError(f"{place} has the key {key!r} of type {type(key).__name__}; JSON keys are strings")
    if key == _TAG:
        raise InvalidValueError(f"{place} has the key {_TAG!r}, which is reserved for NaN and infinity; rename it")
    return key


def _untagged(value: dict[str, Any]) -> Any:
    return float(value[_TAG]) if value.keys() == {_TAG} else value
