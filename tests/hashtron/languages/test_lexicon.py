import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import CorruptFileError, DataUnavailableError, TitheError
from tithe.hashtron.languages import Dropped, parse, read

GOOD = "kot\tk ɔ t\npies\tp j ɛ s\nżaba\tʐ a b a\n"


def reasons(text):
    return [(drop.line, drop.reason) for drop in parse(text.encode()).dropped]


def test_good_file():
    lexicon = parse(GOOD.encode())
    assert lexicon.words == ("kot", "pies", "żaba")
    assert lexicon.phonemes == (("k", "ɔ", "t"), ("p", "j", "ɛ", "s"), ("ʐ", "a", "b", "a"))
    assert (len(lexicon), lexicon.lines, lexicon.dropped) == (3, 3, ())
    assert lexicon.report() == "3 of 3 lines kept"


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.replace("\n", "\r").encode(),
        GOOD.removesuffix("\n").encode(),
        GOOD.replace(" ", "  ").encode(),
        GOOD.replace("kot", " kot ").encode(),
        unicodedata.normalize("NFD", GOOD).encode(),
    ],
    ids=["byte-order mark", "CR LF", "CR", "no last end", "two spaces", "spaces around", "decomposed"],
)
def test_harmless_variants_read_the_same(data):
    assert parse(data) == parse(GOOD.encode())


@pytest.mark.parametrize(
    "line, reason",
    [
        ("", "blank"),
        (" \t ", "blank"),
        ("dom", "columns"),
        ("dom d ɔ m", "columns"),
        ("dom\td ɔ m\tnoun", "columns"),
        (" \td ɔ m", "no word"),
        ("dom\t ", "no phonemes"),
        ("d\ufffdm\td ɔ m", "unreadable"),
        ("dom\td \x07 m", "unreadable"),
        ("pies\tp  j ɛ s", "duplicate"),
        (unicodedata.normalize("NFD", "żaba") + "\tʐ a b a", "duplicate"),
    ],
)
def test_a_broken_line_is_dropped_with_its_reason(line, reason):
    lexicon = parse((GOOD + line + "\nlas\tl a s\n").encode())
    assert lexicon.words == ("kot", "pies", "żaba", "las")
    assert lexicon.dropped == (Dropped(4, reason, line),)
    assert f"1 {reason} (line 4)" in lexicon.report()


def test_another_pronunciation_is_no_duplicate():
    lexicon = parse((GOOD + "kot\tk o t\n").encode())
    assert lexicon.words.count("kot") == 2
    assert lexicon.dropped == ()


@pytest.mark.parametrize(
    "data, says",
    [
        (b"", r"lex\.tsv, line 1: the file is empty; each line should be a word"),
        (b"\n\n  \n", r"lex\.tsv, line 1: the file is empty"),
        (
            GOOD.encode() + "żuk\tz u k\n".encode("cp1250"),
            r"line 4: mixed encodings.* 1 of 5, while 3 others.*UTF-8",
        ),
        ("fósforo\tf\nmaçã\tm\n".encode("latin1"), r"line 1: the file is not UTF-8; save all of it"),
        (GOOD.encode("utf-16"), r"line 1: the file is UTF-16"),
        (GOOD.encode("utf-16-le"), r"line 1: the file is UTF-16"),
        (b"PK\x03\x04\0\0", r"binary"),
        (GOOD.replace("\t", ",").encode(), r"line 1: 3 of 3 lines give no pronunciation, most for 'columns'.*one tab"),
        ((GOOD + "a\na\na\na\n").encode(), r"line 4: 4 of 7 lines"),
        (b"a\tx\nb\tx x\n", r"line 1 to 2: 'x' is the only phoneme.*put spaces"),
        (b"a\tx y\na\ty\n", r"line 1 to 2: 'a' is the only word.*give more"),
        (b"a\t\nb\t\n", r"most for 'no phonemes'"),
    ],
)
def test_a_broken_file_is_refused_with_its_line_and_a_remedy(tmp_path, data, says):
    path = tmp_path / "lex.tsv"
    path.write_bytes(data)
    with pytest.raises(CorruptFileError, match=says) as caught:
        read(path)
    assert isinstance(caught.value, TitheError)
    assert str(path) in str(caught.value)


def test_half_of_the_lines_may_be_broken():
    assert reasons("a\tx\nb\ty\nc\nd\n") == [(3, "columns"), (4, "columns")]


@pytest.mark.parametrize("name", ["missing.tsv", "."], ids=["missing", "folder"])
def test_what_cannot_be_read(tmp_path: Path, name):
    with pytest.raises(DataUnavailableError, match=r"cannot read .*give a lexicon"):
        read(tmp_path / name)


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(alphabet="aż\t \n\r\u0301x", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(data):
    try:
        lexicon = parse(data)
    except CorruptFileError as error:
        assert str(error).startswith("lexicon, line ")
        return
    assert len(lexicon) + len(lexicon.dropped) == lexicon.lines
    assert len(set(zip(lexicon.words, lexicon.phonemes, strict=True))) == len(lexicon)
    assert len(set(lexicon.words)) > 1
    rows = zip(lexicon.words, lexicon.phonemes, strict=True)
    assert all(word.strip() and phonemes and all(phonemes) for word, phonemes in rows)
