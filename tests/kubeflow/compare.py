"""A local run and a run on Kubeflow, side by side: what they decided and every figure behind it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TOLERANCE = 1e-6
DOCUMENTS = {  # what is compared: node, channel, file below it
    "examples": ("InteractionExampleGen", "examples", "summary.json"),
    "gate": ("DataGate", "verdict", "verdict.json"),
    "verdict": ("Evaluator", "evaluation", "verdict.json"),
    "roc": ("Evaluator", "evaluation", "roc.json"),
    "release": ("IndexBuilder", "servable", "assets.extra/release.json"),
    "contract": ("IndexBuilder", "servable", "assets.extra/contract.json"),
}
# Versions are numbered by the clock, and the schemas of two installations have two paths.
OF_THE_MOMENT = {"baseline_version", "version", "built_at", "production_version", "created_at", "warm_started_from"}


def documents(folders: Mapping[tuple[str, str], Path]) -> dict[str, Any]:
    """The JSON documents of one run; `folders` by node and channel. Every one of them must be there."""
    return {
        name: json.loads((folders[node, channel] / file).read_text())
        for name, (node, channel, file) in DOCUMENTS.items()
    }


def differences(local: Any, cluster: Any, where: str = "") -> list[str]:
    """Where two documents differ: numbers by more than TOLERANCE, all else at all."""
    if isinstance(local, dict) and isinstance(cluster, dict):
        if local.keys() != cluster.keys():
            return [f"{where}: keys {sorted(local.keys() ^ cluster.keys())}"]
        return [
            line
            for key in local
            if key not in OF_THE_MOMENT
            for line in differences(local[key], cluster[key], f"{where}.{key}" if where else key)
        ]
    if isinstance(local, list) and isinstance(cluster, list):
        if len(local) != len(cluster):
            return [f"{where}: {len(local)} and {len(cluster)} members"]
        return [
            line
            for index, pair in enumerate(zip(local, cluster, strict=True))
            for line in differences(*pair, f"{where}[{index}]")
        ]
    if isinstance(local, float) and isinstance(cluster, float):
        same = math.isclose(local, cluster, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        return [] if same or (math.isnan(local) and math.isnan(cluster)) else [f"{where}: {local} and {cluster}"]
    return [] if local == cluster else [f"{where}: {local!r} and {cluster!r}"]


def figures(document: Any) -> int:
    """How many numbers a document has: an empty comparison must not look like an equal one."""
    if isinstance(document, dict):
        return sum(map(figures, document.values()))
    if isinstance(document, list):
        return sum(map(figures, document))
    return int(isinstance(document, (int, float)) and not isinstance(document, bool))
