"""Write src/tithe/data/lexica.csv, the table of lexica, from a manifest of cut WikiPron files.

The manifest (MANIFEST.json) names the commit of github.com/CUNY-CL/wikipron and for each ISO 639-3 code the file there,
its number of rows, its checksum, and the checksum of the cut. How rows are cut: ``tithe.data.lexicon.sample_rows``.

    python scripts/make_lexica.py MANIFEST.json
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from pathlib import Path, PurePosixPath

from tithe.files import write_atomically

TABLE = Path(__file__).parents[1] / "src" / "tithe" / "data" / "lexica.csv"


def table(manifest: dict[str, dict[str, dict[str, str | int]]]) -> str:
    """The table as CSV text, one line for each code, in alphabetical order."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["code", "source", "rows_of_source", "sha256_of_source", "sha256"])
    for code, entry in sorted(manifest["files"].items()):
        name = PurePosixPath(str(entry["path"])).stem
        writer.writerow([code, name, entry["rows_total"], entry["sha256_of_source"], entry["sha256"]])
    return text.getvalue()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--out", type=Path, default=TABLE)
    options = parser.parse_args()
    content = json.loads(options.manifest.read_text(encoding="utf-8"))
    write_atomically(options.out, table(content))
    print(f"{options.out}: {len(content['files'])} lexica, commit {content['commit']}")
