import json
import warnings

import numpy as np
import pytest

from tithe.errors import CorruptFileError, InvalidDTypeError, InvalidValueError
from tithe.hashtron.encoders import ColumnBits, ImageEncoder, encoder_from_dict
from tithe.hashtron.encoders.byte_runs import runs
from tithe.hashtron.encoders.column import Categories, Codes, Numbers, Text
from tithe.hashtron.hashing import hash32
from tithe.hashtron.tuples.warps import WARPS, Warps

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
    X = np.random.default_rng(0).normal(size=(99, 2)).astype(object)
    X[:, 1] = np.random.default_rng(1).choice(["a", "b", "c"], 99)
    weight = np.random.default_rng(2).random(99)
    assert ColumnBits.fit(X, weight=weight) == ColumnBits.fit(X[::-1], weight=weight[::-1])


def test_neighbours_among_floats_and_large_integers_are_told_apart():
    floats = np.array([[1 + 2**-52], [1 + 2**-51]])
    assert ColumnBits.fit(floats).bits(floats).tolist() == [[False], [True]]
    stamps = np.array([[1_700_000_000_000_000_000], [1_700_000_000_000_000_001]])
    for X in (stamps, stamps.astype(np.uint64), stamps.astype(object)):
        assert ColumnBits.fit(X).bits(X).tolist() == [[False], [True]]
    ends = np.array([[-(2**63)], [2**63 - 1]])
    assert ColumnBits.fit(ends).bits(ends).tolist() == [[False], [True]]


def test_levels_are_quantiles_of_the_weight():
    X = np.random.default_rng(0).normal(size=(600, 1))
    weight = np.where(X[:, 0] > 0, 1.0, 1e-9)
    heavy = ColumnBits.fit(X, weight=weight, levels=7).columns[0].levels
    np.testing.assert_allclose(heavy, ColumnBits.fit(X[X > 0][:, None], levels=7).columns[0].levels, atol=0.05)
    frequent = ColumnBits.fit(np.array([["a"], ["b"], ["b"]], object), weight=np.array([3.0, 1, 1])).columns[0]
    assert frequent.names == ("a", "b")


def test_an_encoder_of_some_bits_makes_these():
    X = np.column_stack((MIXED, [["a b"], [None], ["c"], ["b c"]], [[f"{i}" * 70] for i in range(4)]))
    encoder = ColumnBits.fit(X, text=[4], missing="level")
    assert [type(column) for column in encoder.columns][-2:] == [Text, Codes]
    bits = np.sort(np.random.default_rng(0).permutation(encoder.length)[: encoder.length // 2])
    some = encoder.only(bits)
    np.testing.assert_array_equal(some.bits(X), encoder.bits(X)[:, bits])
    np.testing.assert_array_equal(some.packed(X), encoder.repacked(encoder.packed(X), bits))
    assert some.names() == [encoder.names()[bit] for bit in bits]
    assert some.bytes < encoder.bytes
    assert encoder_from_dict(json.loads(json.dumps(some.to_dict()))) == some


def test_the_runs_of_a_text_are_those_of_hash32():
    for text in (b"", b"a", b"abcd", "näïve".encode()):
        read, expected = np.frombuffer(b"\0" + text + b"\0", np.uint8), np.zeros(64, bool)
        value = np.zeros(len(read), np.uint32)
        for start in range(min(3, len(read))):
            value = hash32(value[: len(read) - start], read[start:], 2**32 - 1)
            expected[value % 64] = True
        np.testing.assert_array_equal(runs([text], 64)[0], expected)


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        (10**400, InvalidValueError, "column 1 holds a number that is too large"),
        (float("inf"), InvalidValueError, "column 1 holds infinity"),
        (np.timedelta64(3, "s"), InvalidDTypeError, "column 1 holds"),
        ("\ud800", InvalidValueError, "column 1 holds a text that is not Unicode"),
        ({"a": 1}, InvalidDTypeError, "column 1 holds"),
    ],
)
def test_values_that_cannot_be_are_named_by_their_column(value, error, match):
    with pytest.raises(error, match=match):
        ColumnBits.fit(np.array([[1.0, value], [2.0, value], [3.0, 4]], object))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float64, bool])
def test_images_of_any_dtype_are_scaled(dtype):
    X = np.random.default_rng(0).integers(0, 2, (5, 8, 8)).astype(dtype)
    encoder = ImageEncoder.fit(X)
    assert encoder.packed(X).dtype == np.uint8
    np.testing.assert_array_equal(encoder.packed(X.reshape(5, 64)), X.astype(np.uint8) * 255)
    assert encoder.packed(X.astype(np.float64) * 9 - 3).max() == 255  # what lies beyond is cut off


def test_images_of_the_full_range_stay_as_they_are():
    X = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    np.testing.assert_array_equal(ImageEncoder.fit(X).packed(X), X)


def test_huge_and_tiny_grey_values_are_scaled_alike():
    X = np.arange(256.0).reshape(1, 16, 16)
    for scale in (1e300, 1e-300):
        np.testing.assert_array_equal(ImageEncoder.fit(X * scale).packed(X * scale), X.astype(np.uint8))
    assert ImageEncoder.fit((X - 127) * 1e306).packed((X - 127) * 1e306).max() == 255


def test_images_that_were_scaled_otherwise_are_warned_of():
    X = np.random.default_rng(0).integers(0, 256, (5, 8, 8)).astype(np.uint8)
    encoder = ImageEncoder.fit(X)
    with pytest.warns(UserWarning, match="scale both in the same way"):
        encoder.packed(X / 255)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.packed(np.zeros_like(X))


def test_slanted_images_are_set_upright():
    upright = np.zeros((1, 16, 16), np.uint8)
    upright[:, 2:14, 7:9] = 255
    slanted = np.zeros_like(upright)
    for y in range(2, 14):
        slanted[:, y, 1 + y : 3 + y] = 255
    plain, deskewed = (ImageEncoder.fit(upright, deskew=deskew) for deskew in (False, True))
    far, near = ((e.blocks(e.packed(upright)) != e.blocks(e.packed(slanted))).mean() for e in (plain, deskewed))
    assert near < far / 3


def test_half_of_the_images_are_mirrored():
    X = np.zeros((400, 12, 12), np.uint8)
    X[:, 2:10, 1:4] = 255
    encoder = ImageEncoder.fit(X, warps=WARPS["mirror"])
    seen = encoder.blocks(encoder.packed(X), seed=0).transpose(0, 2, 1).reshape(400, -1, *encoder.seen.grid)[:, 0]
    on_the_right = seen[:, :, 8:].sum((1, 2)) > seen[:, :, :8].sum((1, 2))
    assert 0.4 < on_the_right.mean() < 0.6


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


@pytest.mark.parametrize(
    "data", [{}, [1, 2], {"kind": "sound"}, {"kind": ["columns"]}, {"kind": "columns", "columns": [{"kind": "?"}]}]
)
def test_what_is_no_encoder(data):
    with pytest.raises(CorruptFileError, match="no encoder"):
        encoder_from_dict(data)


TEXTS = np.array([["ab"], ["cd"], ["ef"]], object)
COLUMNS = {
    "numbers": ColumnBits.fit(table(1, 9)), "text": ColumnBits.fit(TEXTS, text=[0]),
    "categories": ColumnBits.fit(TEXTS),
    "codes": ColumnBits.fit(np.array([[f"{i}"] for i in range(40)], object)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "changes"), [
        ("numbers", {"levels": ["x"]}), ("numbers", {"levels": 5}), ("numbers", {"levels": [2.0, 1.0]}),
        ("numbers", {"levels": [float("nan")]}), ("numbers", {"levels": [10**400]}), ("numbers", {"levels": [True]}),
        ("numbers", {"absent": 7}), ("numbers", {"colour": 1}), ("text", {"buckets": 10**12}), ("text", {"buckets": 0}),
        ("text", {"places": [10**6]}), ("text", {"places": [3, 3]}), ("text", {"places": [-1]}),
        ("categories", {"names": [["a"]]}), ("categories", {"names": "abc"}), ("categories", {"names": ["a"] * 99}),
        ("codes", {"places": [32]}),
    ],
)  # fmt: skip
def test_what_no_column_holds(kind, changes):
    data = json.loads(json.dumps(COLUMNS[kind].to_dict()))
    data["columns"][0] |= changes
    with pytest.raises(CorruptFileError, match="no encoder"):
        encoder_from_dict(data)


@pytest.mark.parametrize("changes", [{"labels": []}, {"labels": [3]}, {"missing": "zzz"}, {"columns": 3}])
def test_what_no_columns_hold(changes):
    with pytest.raises(CorruptFileError, match="no encoder"):
        encoder_from_dict(json.loads(json.dumps(COLUMNS["numbers"].to_dict())) | changes)


@pytest.mark.parametrize(
    "changes", [
        {"shape": [8, 10**7]}, {"shape": ["a", 8]}, {"shape": [8]}, {"shape": 8}, {"shape": [8, -8]}, {"frame": 10**6},
        {"frame": -20}, {"frame": 1.5}, {"bright": ["a"]}, {"bright": [10**9]}, {"bright": [60, 30]}, {"deskew": 1},
        {"bright": [], "steep": []}, {"spread": None}, {"colour": 3}, {"low": "a"}, {"low": 300.0}, {"high": 10**400},
        {"warps": 3}, {"warps": {"shift": 1e300}},
    ],
)  # fmt: skip
def test_what_no_image_encoder_holds(changes):
    data = json.loads(json.dumps(ImageEncoder.fit(np.eye(8)[None], warps=Warps()).to_dict()))
    for name, value in changes.items():
        if isinstance(value, dict):
            data[name] |= value
        else:
            (data if name in data else data["seen"])[name] = value
    with pytest.raises(CorruptFileError, match="no encoder"):
        encoder_from_dict(data)
