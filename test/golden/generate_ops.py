"""Writes test/golden/ops/*.json: single operations, computed by torch. Format: see case.py.

    python3 test/golden/generate_ops.py [family ...]
"""

import sys

import torch

from families import FAMILIES

if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen = sys.argv[1:] or list(FAMILIES)
    for name in chosen:
        FAMILIES[name]().write()
