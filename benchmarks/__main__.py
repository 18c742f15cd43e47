"""What the library costs, as ratios measured side by side in one run: `make bench`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import scipy
import torch
from torch import Tensor

from benchmarks.accuracy import accuracy
from benchmarks.convolution import convolution
from benchmarks.descent import descent
from benchmarks.eigenvalue_peers import eigenvalue_peers
from benchmarks.flow_peers import flow_peers
from benchmarks.large_steps import large_steps
from benchmarks.measure import Measured, Table, summary, text
from benchmarks.memory import memory
from benchmarks.processes import processes
from benchmarks.scaling import scaling
from benchmarks.spectrum import spectrum
from benchmarks.vectors import vectors
from gfgd.files import replacing
from gfgd.problems import datasets

DATASET = "mnist_subset"
RESULTS = Path("_build/benchmarks.json")

Part = Callable[[Tensor, Tensor, int], Table]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of the parts that were asked for, then all ratios; write them as JSON."""
    options = parsed(arguments)
    images, labels = datasets.load(DATASET)
    found: dict[str, Any] = {**circumstances(), "rounds": options.rounds, "tables": []}
    print("\n".join(f"{name}: {value}" for name, value in found.items() if name != "tables"))
    measured: list[Measured] = []
    for letter in options.parts or PARTS:
        for part in PARTS[letter]:
            if part is accuracy:
                part = partial(accuracy, live=options.live)
            begun = time.perf_counter()
            table = part(images, labels, options.rounds)
            seconds = round(time.perf_counter() - begun, 1)
            print(f"\n{text(table)}\n  [{seconds} s]", flush=True)
            found["tables"].append({**asdict(table), "part": letter, "seconds": seconds})
            measured += table.measured
    print(f"\nRatios, medians of the rounds with quartiles\n{summary(measured)}")
    print(f"\n{write(found, RESULTS)}")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        help="a: accuracy of the flow, b: descent, c: spectrum, d: convolution, e: scaling, "
        "processes and memory, f: flows for large steps, g: eigenvalues and flow beside other "
        "packages; all if none is named",
    )
    parser.add_argument("--rounds", type=int, default=9, help="how often timings are repeated")
    parser.add_argument(
        "--live",
        action="store_true",
        help="for a, run GD at η₀/20, which takes minutes, in place of reading the archive",
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}: choose from {' '.join(PARTS)}")
    if options.rounds < 2:
        parser.error(f"--rounds {options.rounds}: quartiles need at least 2")
    return options


PARTS: dict[str, tuple[Part, ...]] = {
    "a": (accuracy,),
    "b": (descent,),
    "c": (spectrum,),
    "d": (convolution,),
    "e": (scaling, processes, memory, vectors),
    "f": (large_steps,),
    "g": (eigenvalue_peers, flow_peers),
}


def circumstances() -> dict[str, Any]:
    """Return the date, the machine and the versions."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{platform.system()}, {processor()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "versions": f"Python {platform.python_version()}, PyTorch {torch.__version__}, "
        f"SciPy {scipy.__version__}",
        "data": DATASET,
    }


def processor() -> str:
    """Return the processor's model where it is known, else its architecture."""
    listed = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", listed.read_text()) if listed.exists() else []
    return models[0] if models else platform.processor() or platform.machine()


def write(found: dict[str, Any], path: Path) -> Path:
    """Write the results as JSON, whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(found, indent=1, ensure_ascii=False), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
