"""An executed notebook under the prose of today: a changed sentence needs no new run.

A fingerprint holds a chapter's code cells and nothing of its prose. So the executed notebook of an
unchanged fingerprint has the same code cells, in the same order, and their outputs; all else on the
page (Markdown cells, alt texts, folds) comes from the chapter as it stands.
"""

import copy

import nbformat
from nbformat import NotebookNode

from gfgd.book.running.execute import PROVENANCE_TAG
from gfgd.book.running.fingerprint import code_cells

INJECTED_TAG = "injected-parameters"


def with_fresh_prose(chapter: NotebookNode, executed: NotebookNode) -> NotebookNode:
    """Return the chapter's cells with the outputs of its run.

    The run's own two cells stay where they were: the parameters that papermill injected after those
    of the chapter, and the provenance at the end.

    Parameters
    ----------
    chapter
        The notebook as it stands.
    executed
        The notebook of a run; neither is changed.

    Raises
    ------
    ValueError
        If the code cells are not those that ran.
    """
    injected = {}
    ran: list[NotebookNode] = []
    for cell in code_cells(executed):
        if _has(cell, INJECTED_TAG):
            injected[len(ran)] = cell
        else:
            ran.append(cell)
    now = code_cells(chapter)
    if [cell.source for cell in now] != [cell.source for cell in ran]:
        raise ValueError("executed: its code cells are not the chapter's; run the chapter again")
    cells = [injected[0]] if 0 in injected else []
    done = 0
    for cell in chapter.cells:
        fresh = copy.deepcopy(cell)
        cells.append(fresh)
        if cell.cell_type == "code":
            fresh.outputs, fresh.execution_count = ran[done].outputs, ran[done].execution_count
            done += 1
            cells += [injected[done]] if done in injected else []
    cells += [cell for cell in executed.cells if _has(cell, PROVENANCE_TAG)]
    merged = nbformat.v4.new_notebook(metadata=executed.metadata, cells=cells)
    merged.nbformat_minor = executed.nbformat_minor
    return merged


def _has(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])
