"""Imported by benchmarks that use the packages of Evergreen: the project's folder goes to the front of the path.

A script's folder is the first place where Python looks, and the `serving.py` in it is not the package `serving`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
