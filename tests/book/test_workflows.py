"""The workflows: what they may do, what they run, and where."""

import re
from pathlib import Path

import pytest
import yaml

from .conftest import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FILES = [*WORKFLOWS, *sorted((GITHUB / "actions").glob("*/action.yml"))]
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def read(path: Path):
    # BaseLoader: YAML 1.1 would read the key `on` as true, and 3.10 as a number.
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


def workflow(name):
    return read(GITHUB / "workflows" / f"{name}.yml")


def commands(job):
    return [step["run"].strip() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_action_is_pinned_to_a_commit_with_its_release_beside_it(path):
    used = re.findall(r"uses: +(.+)", path.read_text(encoding="utf-8"))
    assert used
    for action in used:
        if action.startswith("./"):
            assert (ROOT / action / "action.yml").is_file()
        else:
            assert PINNED.fullmatch(action), action


@each_workflow
def test_only_the_publishing_job_may_write(path):
    content = read(path)
    assert content["permissions"] == {"contents": "read"}
    granted = {
        name: job["permissions"] for name, job in content["jobs"].items() if "permissions" in job
    }
    write = dict.fromkeys(["contents", "pages", "id-token"], "write")
    publishing = {"deploy": write | {"actions": "read"}}
    assert granted == (publishing if path.stem == "publish" else {})


def test_the_publishing_job_runs_nothing_of_the_book():
    deploy = workflow("publish")["jobs"]["deploy"]
    used = [step["uses"].partition("@")[0] for step in deploy["steps"] if "uses" in step]
    assert used == ["actions/checkout", "actions/deploy-pages"]
    (shell,) = commands(deploy)
    programs = {line.split()[0] for line in shell.replace("\\\n", " ").splitlines()}
    assert programs == {"cp", "gh", "git"}


def test_the_token_that_may_write_is_given_to_one_step_and_stands_in_no_command():
    publish = (GITHUB / "workflows" / "publish.yml").read_text(encoding="utf-8")
    assert publish.count("github.token") == 1
    assert "secrets." not in publish
    for job in workflow("publish")["jobs"].values():
        assert not any("${{" in line for line in commands(job))


@each_workflow
def test_no_token_is_kept_and_no_job_runs_without_end_or_beside_its_like(path):
    content = read(path)
    assert "pull_request_target" not in content["on"]
    assert content["concurrency"]["group"]
    for job in content["jobs"].values():
        assert int(job["timeout-minutes"]) <= 360
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] == "false"


def test_pull_requests_are_tested_on_three_systems_with_the_oldest_and_newest_python():
    ci = workflow("ci")
    assert "pull_request" in ci["on"]
    supported = re.findall(
        r'"Programming Language :: Python :: 3\.(\d+)"', (ROOT / "pyproject.toml").read_text()
    )
    wanted = [
        f"3.{minor}" for minor in sorted({min(map(int, supported)), max(map(int, supported))})
    ]
    book, library = ci["jobs"]["book-and-tests"], ci["jobs"]["library"]
    assert book["strategy"]["matrix"]["python"] == library["strategy"]["matrix"]["python"] == wanted
    assert book["runs-on"] == "ubuntu-latest"
    assert library["strategy"]["matrix"]["system"] == ["macos-latest", "windows-latest"]
    assert "bash .ci/run" in commands(book)
    assert not any(line.startswith("make") for line in commands(library))


def test_main_is_published_and_the_published_setting_and_links_are_checked_weekly():
    publish, weekly = workflow("publish"), workflow("weekly")
    assert publish["on"]["push"] == {"branches": ["main"]}
    assert publish["jobs"]["deploy"]["if"] == "github.ref == 'refs/heads/main'"
    assert [len(entry["cron"].split()) for entry in weekly["on"]["schedule"]] == [5]
    (job,) = weekly["jobs"].values()
    assert any("--preset paper" in line for line in commands(job))
    links = [step for step in job["steps"] if step.get("name") == "check links"]
    assert "_build/html/" in links[0]["with"]["args"]


def test_what_keys_a_cache_is_there():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        keys = re.findall(r"hashFiles\('(?!_build)([^']+)'\)", text)
        listed = re.findall(r"cache-dependency-path: \|\n((?: {10,}\S+\n)+)", text)
        for pattern in [*keys, *" ".join(listed).split()]:
            assert list(ROOT.glob(pattern)), f"{path.name}: {pattern} is no file: a constant key"
