import sys
from pathlib import Path

# Families of operands and errors that several test files share.
sys.path.insert(0, str(Path(__file__).parent / "product"))
