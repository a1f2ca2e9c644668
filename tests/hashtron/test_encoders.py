import json

import numpy as np
import pytest

from tithe.errors import CorruptFileError, InvalidDTypeError, InvalidValueError
from tithe.hashtron.encoders import ColumnBits, ImageEncoder, encoder_from_dict
from tithe.hashtron.encoders.column import Categories, Numbers, Text
from tithe.hashtron.tuples.warps import Warps

MIXED = np.array(
    [[1.5, "red", True, 7], [2.5, "blue", False, 7], [3.5, "red", True, 7], [0.0, "green", True, 7]], object
)


def table(columns=4, rows=200, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, columns))


def test_numbers_become_thermometers_at_quantiles():
    X = table(1)
    bits = ColumnBits.fit(X, levels=7).bits(X)
    assert bits.shape == (200, 7)
    assert (bits[:, 1:] <= bits[:, :-1]).all()  # no bit without those below
    np.testing.assert_allclose(bits.mean(0), np.arange(7, 0, -1) / 8, atol=0.01)


def test_levels_lie_between_values():
    encoder = ColumnBits.fit(np.array([[0.0], [1.0], [3.0]]))
    assert encoder.columns[0].levels == (0.5, 2.0)
    assert encoder.bits(np.array([[0.4], [0.6], [9.0]])).sum(1).tolist() == [0, 1, 2]


def test_kinds_of_columns_and_constant_ones():
    encoder = ColumnBits.fit(MIXED)
    assert [type(column) for column in encoder.columns] == [Numbers, Categories, Numbers, Numbers]
    assert encoder.lengths == (3, 3, 1)  # the constant has none
    assert encoder.length == encoder.bits(MIXED).shape[1] == 7


def test_nothing_but_constants_leaves_a_bit_that_is_never_set():
    encoder = ColumnBits.fit(np.ones((3, 2)))
    assert encoder.length == 1
    assert not encoder.blocks(encoder.packed(np.zeros((3, 2)))).any()


def test_unseen_categories_have_no_bit():
    encoder = ColumnBits.fit(np.array([["a"], ["b"], ["b"]], object))
    assert encoder.columns[0].names == ("b", "a")
    assert encoder.bits(np.array([["c"], ["a"]], object)).tolist() == [[False, False], [False, True]]


def test_many_categories_share_a_code_and_differ():
    names = np.array([[f"city {i}"] for i in range(500)], object)
    encoder = ColumnBits.fit(names)
    codes = encoder.bits(names)
    assert codes.shape == (500, 32)
    assert len(np.unique(codes, axis=0)) == 500
    assert 0.4 < codes.mean() < 0.6


def test_numbers_as_categories_by_number_and_by_name():
    X = np.array([[3, 1.0], [5, 2.0], [3, 3.0]])
    for which in ([0], ["kind"], [-2]):
        encoder = ColumnBits.fit(X, categorical=which, feature_names=["kind", "size"])
        assert encoder.columns[0] == Categories((3.0, 5.0))


def test_text_as_byte_runs():
    texts = np.array([["naïve"], ["native"], [""], ["navy"]], object)
    encoder = ColumnBits.fit(texts, text=[0])
    assert isinstance(encoder.columns[0], Text)
    bits = encoder.bits(texts)
    assert (bits[1] & bits[3]).sum() > (bits[2] & bits[3]).sum()  # what begins alike shares runs


def test_missing_values_are_refused_or_a_level():
    X = np.array([[1.0, "a"], [np.nan, None], [3.0, "b"]], object)
    with pytest.raises(InvalidValueError, match=r"column 0 \('size'\) has 1 missing values \(NaN or None\)"):
        ColumnBits.fit(X, feature_names=["size", "kind"])
    encoder = ColumnBits.fit(X, missing="level")
    assert encoder.bits(X).astype(int).tolist() == [[0, 0, 1, 0, 0], [0, 1, 0, 0, 1], [1, 0, 0, 1, 0]]
    unmarked = ColumnBits.fit(np.array([[1.0], [2.0]]), missing="level")
    assert unmarked.bits(np.array([[np.nan]])).tolist() == [[False]]


def test_values_of_other_types_are_refused():
    with pytest.raises(InvalidDTypeError, match="a dict; each argument must be a string or a real number"):
        ColumnBits.fit(np.array([[{"a": 1}], ["b"]], object))
    with pytest.raises(InvalidDTypeError, match="'a', a str; each argument must be a real number"):
        ColumnBits.fit(np.array([[1], [2]], object)).bits(np.array([["a"]], object))


@pytest.mark.parametrize(
    ("options", "match"),
    [({"missing": "zero"}, "'level'"), ({"categorical": [4]}, "4 columns"), ({"text": ["size"]}, "not known")],
)
def test_wrong_options(options, match):
    with pytest.raises(InvalidValueError, match=match):
        ColumnBits.fit(table(), **options)


def test_blocks_hold_16_samples_side_by_side():
    X = table(rows=20)
    encoder = ColumnBits.fit(X)
    blocks = encoder.blocks(encoder.packed(X))
    assert blocks.shape == (2, encoder.length, 16)
    assert blocks.dtype == np.uint8
    np.testing.assert_array_equal(blocks.transpose(0, 2, 1).reshape(32, -1)[:20], encoder.bits(X))
    assert not blocks[1, :, 4:].any()


def test_the_order_of_rows_does_not_matter():
    assert ColumnBits.fit(MIXED) == ColumnBits.fit(MIXED[::-1])


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float64, bool])
def test_images_of_any_dtype_are_scaled(dtype):
    X = np.random.default_rng(0).integers(0, 2, (5, 8, 8)).astype(dtype)
    encoder = ImageEncoder.fit(X)
    assert encoder.packed(X).dtype == np.uint8
    np.testing.assert_array_equal(encoder.packed(X.reshape(5, 64)), X.astype(np.uint8) * 255)
    assert encoder.packed(X.astype(np.float64) * 9 - 3).max() == 255  # what lies beyond is cut off


def test_images_of_the_full_range_stay_as_they_are():
    X = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert ImageEncoder.fit(X).packed(X) is not None
    np.testing.assert_array_equal(ImageEncoder.fit(X).packed(X), X)


def test_one_grey_value_is_dark():
    X = np.full((2, 8, 8), 7)
    assert not ImageEncoder.fit(X).packed(X).any()


def test_images_are_deformed_by_seed_only():
    X = np.random.default_rng(0).integers(0, 255, (5, 16, 16)).astype(np.uint8)
    encoder = ImageEncoder.fit(X, warps=Warps())
    packed = encoder.packed(X)
    plain = encoder.blocks(packed)
    np.testing.assert_array_equal(encoder.blocks(packed, seed=3), encoder.blocks(packed, seed=3))
    assert (encoder.blocks(packed, seed=3) != plain).any()
    np.testing.assert_array_equal(ImageEncoder.fit(X, warps=None).blocks(packed, seed=3), plain)


def test_windows_are_in_proportion():
    assert ImageEncoder.fit(np.zeros((1, 28, 28))).windows == (8, 9)
    assert ImageEncoder.fit(np.zeros((1, 8, 8))).windows == (2, 3)


@pytest.mark.parametrize(
    "encoder",
    [
        ColumnBits.fit(MIXED),
        ColumnBits.fit(np.array([["a", None], ["b", 2.0]], object), text=[0], missing="level"),
        ImageEncoder.fit(np.eye(8)[None], warps=Warps(), deskew=True),
    ],
)
def test_through_json_and_back(encoder):
    assert encoder_from_dict(json.loads(json.dumps(encoder.to_dict()))) == encoder


@pytest.mark.parametrize("data", [{}, {"kind": "sound"}, {"kind": "columns", "columns": [{"kind": "?"}]}])
def test_what_is_no_encoder(data):
    with pytest.raises(CorruptFileError, match="no encoder"):
        encoder_from_dict(data)
