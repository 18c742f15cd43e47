"""One page on a reader's own network: whether gradient flow represents gradient descent on it.

The chapter on a reader's network is run. Its cells say with a tag in which section of the report
their outputs belong.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gfgd.book.errors import UsageError
from gfgd.book.importing import make_data, make_objective
from gfgd.book.one_page.single_page import single_page
from gfgd.book.running.execute import PROVENANCE_TAG, read_records
from gfgd.files import replacing

CHAPTER = "21_your_network"
#: How many times are compared; the number of iterations is a multiple of it.
RECORDINGS = 50
#: Tags of the chapter's cells and the sections of the report that show their outputs, in order.
SECTIONS = {
    "report-answer": "",
    "report-step": "## The step size for a distance",
    "report-pictures": "## The pictures",
    "report-against": "## What speaks against it",
    "report-made": "## The network, and whether its derivatives are right",
}


def checked_loss(network: str, data: str, loss: str | None, *, seed: int) -> str:
    """Return the loss to take, after making the network, its data and the objective once.

    Without a `loss` it is cross-entropy where targets are whole numbers, else the mean squared
    error.

    Raises
    ------
    UsageError
        If something is wrong with the functions, what they return, or the loss of it.
    """
    try:
        inputs, targets = make_data(data, seed=seed)
        chosen = loss or _loss_for(inputs, targets)
        make_objective(network, chosen, (inputs, targets), seed=seed)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return chosen


def _loss_for(inputs: Any, targets: Any) -> str:
    if isinstance(inputs, (Dataset, DataLoader)):
        first = next(iter(inputs if isinstance(inputs, DataLoader) else DataLoader(inputs)), None)
        targets = first[1] if isinstance(first, (tuple, list)) and len(first) == 2 else None
    if not isinstance(targets, Tensor):
        raise ValueError("loss: the data have no targets that would tell it; give --loss")
    return "mse" if targets.is_floating_point() else "cross_entropy"


def write_report(executed: Path, page: Path, numbers: Path, parameters: Mapping[str, Any]) -> str:
    """Write the report of a run of the chapter, and its numbers as JSON; return the answer.

    Parameters
    ----------
    executed
        The notebook of the run.
    page, numbers
        The HTML and the JSON file; earlier ones are replaced.
    parameters
        What the run was given.
    """
    notebook = nbformat.read(executed, as_version=4)
    html = single_page(report_of(notebook, str(parameters["network"])))
    answer, against = (_texts(notebook, f"report-{name}") for name in ("answer", "against"))
    found = {
        "answer": answer.replace("**", ""),
        "numbers": {
            name: value if math.isfinite(value) else None
            for name, value in read_records(notebook).items()
        },
        "against": [line[2:].replace("**", "") for line in against.splitlines() if line],
        "parameters": dict(parameters),
        "how_it_was_made": _made(notebook),
    }
    for path, text in ((page, html), (numbers, json.dumps(found, indent=2, ensure_ascii=False))):
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return found["answer"]


def report_of(notebook: NotebookNode, network: str) -> NotebookNode:
    """Return the report as a notebook: the answer, then the sections, then how it was made."""
    name = network.rpartition("/")[-1]
    title = f"# Does gradient flow represent gradient descent on `{name}`?"
    cells = [nbformat.v4.new_markdown_cell(title, id="report-title")]
    for tag, heading in SECTIONS.items():
        if heading:
            cells.append(nbformat.v4.new_markdown_cell(heading, id=f"{tag}-heading"))
        for number, cell in enumerate(_tagged(notebook, tag)):
            # With its source, which is not shown: the parser leaves out a cell without one.
            shown = nbformat.v4.new_code_cell(
                cell.source, id=f"{tag}-{number}", outputs=cell.outputs
            )
            shown.metadata = nbformat.from_dict({**cell.metadata, "tags": ["remove-input"]})
            cells.append(shown)
    cells += _tagged(notebook, PROVENANCE_TAG)
    return nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": notebook.metadata["kernelspec"]}
    )


def _tagged(notebook: NotebookNode, tag: str) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def _texts(notebook: NotebookNode, tag: str) -> str:
    """Return the Markdown that the cells with a tag have shown."""
    outputs = [output for cell in _tagged(notebook, tag) for output in cell.outputs]
    return "\n".join(
        "".join(output.data["text/markdown"])
        for output in outputs
        if "text/markdown" in output.get("data", {})
    )


def _made(notebook: NotebookNode) -> dict[str, str]:
    """Return the lines of the section on how the page was made, by name."""
    lines = "\n".join(cell.source for cell in _tagged(notebook, PROVENANCE_TAG)).splitlines()
    entries = [line[4:].partition("**: ") for line in lines if line.startswith("- **")]
    return {name: said for name, _, said in entries}
