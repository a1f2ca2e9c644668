"""Bars of renewal: it keeps a network able to learn, on permuted inputs and on random labels."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bars.bar import Reading, bar
from benchmarks.renormalizing import Store, best_rival, compare, difference, in_words

_SEEDS = 20
_LEAST_ACCURACY, _LEAST_END, _LEAST_GAIN = 94.0, -0.3, 15.0


@bar("renormalizing")
def renormalizing() -> Iterator[Reading]:
    """One default setting against tuned rivals, last five of 16 tasks; runs that were kept are not done again."""
    store = Store(fresh=False)
    scores = compare(store, "permuted", _SEEDS)
    mean = sum(scores["renormalise"]) / _SEEDS
    what = f"Renormalizer, permuted inputs, {_SEEDS} seeds"
    yield Reading(f"{what}, accuracy", f"{mean:.2f} %", f"≥ {_LEAST_ACCURACY:.0f} %", mean >= _LEAST_ACCURACY)
    rival = best_rival(scores)
    found = difference(scores, "renormalise", rival)
    holds = found.low is not None and found.low >= _LEAST_END
    yield Reading(f"{what}, points to tuned {rival}", in_words(found), f"lower end ≥ {_LEAST_END}", holds)
    gain = difference(compare(store, "labels", _SEEDS, ("plain", "renormalise")), "renormalise", "plain")
    figure, target = in_words(gain), f"≥ +{_LEAST_GAIN:.0f}"
    yield Reading(
        f"Renormalizer, random labels, {_SEEDS} seeds, points over plain", figure, target, gain.mean >= _LEAST_GAIN
    )
