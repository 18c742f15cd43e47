import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from gfgd import gradient_descent, networks
from gfgd.paper import archive, long_runs
from gfgd.paper.archive import FLOW, LOOSER_FLOW, ArchiveError, descent_name
from gfgd.paper.long_runs import Descent, Experiment, Plan, Protocol, make_archive
from gfgd.problems import datasets
from gfgd.trajectory import Trajectory

NETWORK = "fully_connected_linear"
SMALL = Protocol("digits", step_size=1e-2, iterations=20, recordings=4)


def make(root: Path, ratios=(1, 2), dtypes=("float64",), protocol=SMALL) -> list[str]:
    said: list[str] = []
    plan = Plan(dtypes=dtypes, ratios=ratios)
    make_archive(root, names=[NETWORK], of=["1"], plan=plan, protocol=protocol, say=said.append)
    return said


def made(root: Path) -> archive.Archived:
    return archive.read(NETWORK, start="1", folder=root / "data" / "archive")


def test_results_are_those_of_runs_in_one_piece(tmp_path):
    make(tmp_path, dtypes=("float64", "float32"))
    found = made(tmp_path)
    images, labels = datasets.load("digits")
    runs = {}
    for dtype in ("float64", "float32"):
        objective = networks.fully_connected(
            images, labels, hidden=(50, 50), activation="linear", dtype=getattr(torch, dtype)
        )
        for ratio in (1, 2):
            runs[descent_name(ratio, dtype)] = gradient_descent(
                objective,
                objective.initial(1),
                step_size=1e-2 / ratio,
                iterations=20 * ratio,
                record_every=5 * ratio,
            )
    assert set(found.runs) == {FLOW, LOOSER_FLOW, *runs}
    for name, run in runs.items():
        torch.testing.assert_close(found.loss(name), run.losses.double())
        torch.testing.assert_close(found.distance_from_start(name), run.distance_from_start())
        for other, second in runs.items():
            torch.testing.assert_close(found.distance(name, other), run.distance_to(second))
    # Euler's method is of first order.
    ratio = found.distance(descent_name(1)).max() / found.distance(descent_name(2)).max()
    assert 1.9 < ratio < 2.1
    assert found.distance(LOOSER_FLOW).max() < 1e-3 * found.distance(descent_name(1)).max()
    assert found.spectrum is not None and found.spectrum.certified
    assert torch.equal(found.spectrum.times, found.times)
    assert found.cost(descent_name(2))["gradients"] == 40 + 4  # one more for each piece
    assert found.provenance["protocol"]["dataset"] == "digits"


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path, monkeypatch):
    protocol = Protocol("digits", step_size=1e-3, iterations=400, recordings=40)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    script = (
        "from pathlib import Path; from gfgd.paper import long_runs\n"
        "long_runs.CHECKPOINT_SECONDS = 0.0\n"
        f"long_runs.make_archive(Path({str(killed)!r}), names=[{NETWORK!r}], "
        "of=['1'], plan=long_runs.Plan(ratios=[1], dtypes=['float64']), "
        f"protocol=long_runs.{protocol!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not list(killed.glob("_build/archive/*/η₀, float64.npz")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not list(killed.glob("_build/archive/*/η₀, float64.json"))

    pieces = []
    advance = Descent.advance
    monkeypatch.setattr(
        Descent, "advance", lambda self, *rest: pieces.append(self) or advance(self, *rest)
    )
    make(killed, ratios=(1,), protocol=protocol)
    assert 0 < len(pieces) < 40
    make(whole, ratios=(1,), protocol=protocol)
    name = descent_name(1)
    torch.testing.assert_close(made(killed).loss(name), made(whole).loss(name))
    torch.testing.assert_close(made(killed).distance(name), made(whole).distance(name))
    assert made(killed).cost(name)["gradients"] == made(whole).cost(name)["gradients"]


def test_a_row_is_added_without_making_others_again(tmp_path):
    assert make(tmp_path) == [f"{NETWORK}, seed 1: 4 runs added"]
    assert make(tmp_path) == [f"{NETWORK}, seed 1: all is there"]
    before = made(tmp_path)
    (scratch,) = (tmp_path / "_build" / "archive").iterdir()
    for path in scratch.iterdir():
        path.unlink()  # as in a fresh clone
    make(tmp_path, ratios=(5,))
    after, third = made(tmp_path), descent_name(5)
    assert set(after.runs) == {*before.runs, third}
    assert set(long_runs.complete_runs(scratch)) == {FLOW, descent_name(1), third}
    assert torch.equal(after.losses[: len(before.runs)], before.losses)
    assert after.distance(third).isfinite().all()
    assert after.distance(third, descent_name(1)).isfinite().all()
    assert after.distance(third, descent_name(2)).isnan().all()
    # First order: 1 − 1/5 of the distance at η₀ lies between them.
    share = after.distance(third, descent_name(1)).max() / after.distance(descent_name(1)).max()
    assert 0.75 < share < 0.85
    for run in before.runs:
        assert after.cost(run) == before.cost(run)


def test_another_order_of_the_samples_is_the_same_function(tmp_path):
    experiment = Experiment(NETWORK, "1", SMALL, tmp_path)
    values: dict[str, list[torch.Tensor]] = {}
    for dtype, tolerance in (("float64", 1e-14), ("float32", 1e-6)):
        one, other = (experiment.objective(dtype, order) for order in (0, 1))
        point = one.initial(1)
        values[dtype] = [one.gradient(point), other.gradient(point)]
        torch.testing.assert_close(*values[dtype], rtol=tolerance, atol=tolerance)
    assert not torch.equal(*values["float32"])


def test_results_name_a_commit_or_are_not_made(tmp_path, monkeypatch):
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "code").write_text("first")
    (tmp_path / "data" / "archive").mkdir(parents=True)
    (tmp_path / "data" / "archive" / "README.md").write_text("first")
    git("add", ".")
    git("-c", "user.name=A", "-c", "user.email=a@b", "commit", "-m", "all")
    (tmp_path / "data" / "archive" / "README.md").write_text("results do not count")
    make(tmp_path, ratios=(1,))
    made_by = made(tmp_path).cost(FLOW)["commit"]
    assert len(made_by) >= 7 and "changes" not in made_by
    (tmp_path / "code").write_text("second")
    with pytest.raises(ArchiveError, match="has local changes"):
        make(tmp_path, ratios=(2,))


def test_the_paper_start_needs_the_paper_network(tmp_path):
    with pytest.raises(ValueError, match="the paper's fully_connected_linear has 42200 parameters"):
        make_archive(tmp_path, names=[NETWORK], protocol=SMALL)


def test_a_run_that_diverges_is_kept_as_such(tmp_path):
    protocol = Protocol("digits", step_size=1e6, iterations=400, recordings=4)
    experiment = Experiment(NETWORK, "1", protocol, tmp_path)
    run = Descent(1, "float64")
    long_runs._complete(tmp_path, experiment, run)
    kept = Trajectory.load(experiment.file(run.name))
    assert kept.status.startswith("diverged")
    note = json.loads(experiment.file(run.name).with_suffix(".json").read_text())
    assert note["status"] == kept.status
    padded = long_runs._distances(kept, [kept, kept], 5)
    assert padded[0, 1, : len(kept.times)].isfinite().all()
    assert padded[0, 1, len(kept.times) :].isnan().all()


def test_what_another_process_makes_is_left_to_it(tmp_path, monkeypatch):
    make(tmp_path, ratios=(1,))
    (scratch,) = (tmp_path / "_build" / "archive").iterdir()
    with FileLock(scratch / ".lock"):
        assert make(tmp_path) == [f"{NETWORK}, seed 1: another process is making it"]


@pytest.mark.parametrize("name", long_runs.ARCHITECTURES)
def test_every_architecture_can_be_made(name):
    architecture = long_runs.ARCHITECTURES[name]
    images = torch.rand(3, 28 * 28, generator=torch.Generator().manual_seed(0))
    objective = architecture.make(images, torch.tensor([0, 1, 9]), **architecture.arguments)
    assert objective.gradient(objective.initial(1)).isfinite().all()
