"""Seeds for one purpose each, derived from a run's seed by named axes."""

from __future__ import annotations

import hashlib
import json


def derive_seed(seed: int, *axes: str | int) -> int:
    """The first 63 bits of SHA-256 over the seed and the axes' names.

    Args:
        seed: the run's seed.
        axes: what the derived seed depends on, such as ``"split"`` or ``("order", epoch)``.

    Returns:
        An integer in ``[0, 2**63)``.
    """
    text = json.dumps([seed, *axes], separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
