import os
import sys
from pathlib import Path

# Families of operands and errors that several test files share.
sys.path.insert(0, str(Path(__file__).parent / "product"))

if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the cores are taken by the other workers
    # Of processes that compile the same function at once numba's cache keeps the index of one and the code of another.
    os.environ["NUMBA_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / "numba" / worker)


def _forget_stale_code() -> None:
    """Delete what numba has compiled before the last change: it looks only at the file of the function that it keeps,
    not at those of the functions that were compiled into it."""
    source = Path(__file__).parents[1] / "src"
    kernels = [path for path in source.rglob("*.py") if "numba" in path.read_text("utf-8")]
    changed = max(path.stat().st_mtime for path in kernels)
    for index in Path(os.environ.get("NUMBA_CACHE_DIR", source)).rglob("*.nbi"):
        if index.stat().st_mtime < changed:
            index.unlink(missing_ok=True)


_forget_stale_code()
