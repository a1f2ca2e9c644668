import os
import sys
from pathlib import Path

# Families of operands and errors that several test files share.
sys.path.insert(0, str(Path(__file__).parent / "product"))

if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the cores are taken by the other workers
    # Of processes that compile the same function at once numba's cache keeps the index of one and the code of another.
    os.environ["NUMBA_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / "numba" / worker)
