import json
import math

import pytest
import torch

from tithe.audit import Column, Evidence, Series, Table, interval, power_law, show
from tithe.audit.formatting import duration
from tithe.errors import InvalidValueError


def test_cells_are_plain_values():
    with pytest.raises(InvalidValueError, match="'error' of row 1 is a Tensor"):
        Table("T", [{"error": 1.0}, {"error": torch.tensor(1.0)}])


def test_rows_have_all_columns():
    with pytest.raises(InvalidValueError, match="row 0 has no error"):
        Table("T", [{"n": 1}], [Column("n", "n"), Column("error", "error")])


def test_columns_default_to_the_first_row():
    table = Table("T", [{"n": 1, "error": 0.5}])
    assert [column.key for column in table.columns] == ["n", "error"]
    assert Table("Empty", []).columns == ()


def test_numbers_that_json_lacks_become_words():
    evidence = Evidence(
        {"t": Table("T", [{"a": math.nan, "b": math.inf}])}, facts={"c": -math.inf, "d": {"e": math.nan}}
    )
    plain = evidence.to_dict()
    assert plain["tables"]["t"]["rows"] == [{"a": "nan", "b": "inf"}]
    assert plain["facts"] == {"c": "-inf", "d": {"e": "nan"}}
    json.dumps(plain, allow_nan=False)


def test_rows_of_a_missing_table_are_none():
    assert Evidence().rows("errors", n=1) == []


def test_series_of_different_lengths_are_refused():
    with pytest.raises(InvalidValueError, match="must match"):
        Series("s", [1, 2], [1])
    with pytest.raises(InvalidValueError, match="must match"):
        Series("s", [1, 2], [1, 2], low=[1, 2])
    with pytest.raises(InvalidValueError, match="unknown role"):
        Series("s", [1], [1], role="hoped for")


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (0.0043, ".3g%", "0.43%"),
        (2.24, ".3g%", "224%"),
        (9.8e-8, ".2g%", "0.0000098%"),
        (1e-12, ".2g%", "1.0e-10%"),
        (0.0, "g%", "0%"),
        (-0.25, ".1f", "−0.2"),
        (8192, ",", "8,192"),
        (0.5, "", "0.5"),
        (7, "", "7"),
        ("word", ".2f", "word"),
        (None, ".2f", "–"),
        (math.nan, ".2f", "not a number"),
        (-math.inf, ".2f", "−∞"),
    ],
)
def test_show(value, spec, text):
    assert show(value, spec) == text


def test_show_names_a_format_that_does_not_fit():
    with pytest.raises(InvalidValueError, match=r"'d' does not fit 0\.5"):
        show(0.5, "d")


def test_durations():
    assert [duration(s) for s in (0.005, 59.96, 99.99, 3600)] == ["5 ms", "60 s", "100 s", "60 min 0 s"]


def test_interval_covers_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(2000, 4, generator=generator, dtype=torch.float64)
    hits = sum(low <= 0 <= high for _, low, high in (interval(row.tolist()) for row in samples))
    assert 0.935 < hits / 2000 < 0.965


def test_interval_of_one_value_has_no_ends():
    assert interval([3.0]) == (3.0, None, None)
    with pytest.raises(InvalidValueError, match="at least one"):
        interval([])


def test_power_law_recovers_an_exponent_with_its_interval():
    generator = torch.Generator().manual_seed(1)
    x = [2.0**k for k in range(12)]
    noise = (0.05 * torch.randn(12, generator=generator)).exp().tolist()
    fit = power_law(x, [3 * value**-0.5 * error for value, error in zip(x, noise, strict=True)])
    assert fit.low < -0.5 < fit.high
    assert fit.high - fit.low < 0.05
    assert power_law([1, 4], [1, 2]).exponent == pytest.approx(0.5)


@pytest.mark.parametrize(("x", "y"), [([1], [1]), ([2, 2], [1, 3]), ([1, 2], [0, 1]), ([1, 2, 3], [1, 2])])
def test_power_law_refuses_unusable_points(x, y):
    with pytest.raises(InvalidValueError, match="two or more positive points"):
        power_law(x, y)
