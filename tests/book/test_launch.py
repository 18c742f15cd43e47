"""The branch that the launch buttons open, made by the publishing workflow's own commands.

They run against a local repository; ``gh`` is a small script that hands out what was built.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup

from gfgd.book.build import build_book
from gfgd.book.contents import chapters
from gfgd.book.pages.downloads import INSTALL_TAG, Repository, notebook_to_run, read_repository

from .conftest import ROOT
from .pages.test_downloads import name_repository
from .test_workflows import workflow

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not shutil.which("git"), reason="the job runs on Linux, with git"
)
AUTHOR = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
GH = """\
#!/bin/sh
test "$*" = "run download 17 --name notebooks --dir $RUNNER_TEMP/notebooks" || exit 1
cp -r "{built}" "$RUNNER_TEMP/notebooks"
"""


def git(*arguments, at):
    command = ["git", *AUTHOR, *map(str, arguments)]
    return subprocess.run(command, cwd=at, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def origin(book, tmp_path):
    """A bare repository with the tiny book on main, and all that Binder and pip would use."""
    name_repository(book)
    for name in (".binder", ".github"):
        shutil.copytree(ROOT / name, book / name)
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, book / name)
    shutil.copytree(ROOT / "gfgd", book / "gfgd", ignore=shutil.ignore_patterns("__pycache__"))
    (book / ".gitignore").write_text("_build/\n")
    bare = tmp_path / "origin.git"
    git("init", "--quiet", "--bare", "--initial-branch=main", bare, at=tmp_path)
    git("init", "--quiet", "--initial-branch=main", at=book)
    git("remote", "add", "origin", bare, at=book)
    commit_to_main(book)
    return bare


def commit_to_main(book):
    git("add", "--all", at=book)
    git("commit", "--quiet", "--message", "A book", at=book)
    git("push", "--quiet", "origin", "main", at=book)


def step():
    """Return the step of the publishing job that pushes a branch."""
    (found,) = [
        step
        for step in workflow("publish")["jobs"]["deploy"]["steps"]
        if "git" in step.get("run", "")
    ]
    return found


def publish(origin, built: Path, tmp_path):
    """Run the step's commands as GitHub does, in a fresh and shallow clone of main."""
    work = tmp_path / "work"
    shutil.rmtree(work, ignore_errors=True)
    (work / "temp").mkdir(parents=True)
    gh = work / "bin" / "gh"
    gh.parent.mkdir()
    gh.write_text(GH.format(built=built))
    gh.chmod(0o755)
    git("clone", "--quiet", "--depth=1", origin.as_uri(), work / "checkout", at=work)
    clean = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    environment = clean | {
        "PATH": f"{gh.parent}{os.pathsep}{os.environ['PATH']}",
        "GH_TOKEN": "not asked for by a folder",
        "GITHUB_RUN_ID": "17",
        "GITHUB_SHA": git("rev-parse", "main", at=origin).strip(),
        "RUNNER_TEMP": str(work / "temp"),
    }
    command = ["bash", "-e", "-c", step()["run"]]
    subprocess.run(command, cwd=work / "checkout", env=environment, check=True)


def built_notebooks(book, folder):
    """Write the notebooks as the build leaves them in the pages' ``_sources/chapters``."""
    folder.mkdir(exist_ok=True)
    for chapter in chapters(book):
        nbformat.write(notebook_to_run(chapter, read_repository(book)), folder / chapter.name)
    return folder


def files(origin, branch="notebooks"):
    """Return the modes and paths of a branch."""
    rows = git("ls-tree", "-r", branch, at=origin).splitlines()
    return {row.split("\t")[1]: row.split()[0] for row in rows}


def test_the_branch_is_main_with_the_installing_cell_and_without_workflows(book, origin, tmp_path):
    built = built_notebooks(book, tmp_path / "built")
    publish(origin, built, tmp_path)
    main, branch = files(origin, "main"), files(origin)
    workflows = {path for path in main if path.startswith(".github/")}
    assert workflows
    assert branch == {path: mode for path, mode in main.items() if path not in workflows}
    assert git("diff", "--name-only", "main", "notebooks", "--", ":!.github", at=origin) == (
        "chapters/01_tiny.ipynb\n"
    )
    shown = git("show", "notebooks:chapters/01_tiny.ipynb", at=origin)
    notebook = nbformat.reads(shown, as_version=4)
    assert notebook.cells[0].metadata.tags == [INSTALL_TAG]
    assert 'if importlib.util.find_spec("gfgd") is None:' in notebook.cells[0].source
    chapter = nbformat.read(book / "chapters" / "01_tiny.ipynb", as_version=4)
    assert notebook.cells[1:] == chapter.cells


def test_the_branch_is_one_commit_however_often_it_is_pushed(book, origin, tmp_path):
    publish(origin, built_notebooks(book, tmp_path / "built"), tmp_path)
    before = git("rev-parse", "notebooks", at=origin)
    (book / "index.md").write_text("# Changed\n", encoding="utf-8")
    (book / ".github" / "workflows" / "ci.yml").write_text("name: other\n")
    commit_to_main(book)
    main = git("rev-parse", "main", at=origin)
    publish(origin, built_notebooks(book, tmp_path / "built"), tmp_path)
    assert git("rev-parse", "notebooks", at=origin) != before
    assert git("rev-list", "--count", "notebooks", at=origin) == "1\n"
    assert git("show", "notebooks:index.md", at=origin) == "# Changed\n"
    assert main.strip() in git("log", "--format=%s", "notebooks", at=origin)
    assert git("rev-parse", "main", at=origin) == main, "main stays as it is"


def test_pip_installs_gfgd_from_the_branch(book, origin, tmp_path):
    publish(origin, built_notebooks(book, tmp_path / "built"), tmp_path)
    target = tmp_path / "installed"
    # Older releases of pip want a host in the URL.
    url = origin.as_uri().replace("file://", "file://localhost")
    asked = Repository(url, workflow_branch()).requirement()
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    command += ["--no-build-isolation", "--target", str(target), asked]
    subprocess.run(command, check=True)
    show = "import gfgd.book; print(gfgd.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", show],
        env=os.environ | {"PYTHONPATH": str(target)},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout.startswith(str(target))


def test_binder_finds_what_it_builds_from(book, origin, tmp_path):
    publish(origin, built_notebooks(book, tmp_path / "built"), tmp_path)
    branch = files(origin)
    assert branch[".binder/postBuild"] == "100755"
    environment = yaml.safe_load(git("show", "notebooks:.binder/environment.yml", at=origin))
    assert "pip" in environment["dependencies"], "postBuild calls it"
    assert {"pyproject.toml", "README.md", "LICENSE", "gfgd/__init__.py"} <= branch.keys()


@pytest.mark.slow
def test_the_buttons_of_a_built_book_open_what_the_branch_holds(book, origin, tmp_path):
    build_book(book)
    html = book / "_build" / "html"
    publish(origin, html / "_sources" / "chapters", tmp_path)
    text = (html / "chapters" / "01_tiny.html").read_text("utf-8")
    links = [str(a["href"]) for a in BeautifulSoup(text, "html.parser").select("a[href]")]
    place, branch = "someone/some-book", workflow_branch()
    opened = {
        "Colab": rf"https://colab.research.google.com/github/{place}/blob/{branch}/(.+)",
        "Binder": rf"https://mybinder.org/v2/gh/{place}/{branch}\?urlpath=lab/tree/(.+)",
    }
    for name, pattern in opened.items():
        (path,) = [found[1] for link in links if (found := re.fullmatch(pattern, link))]
        notebook = json.loads(git("show", f"{branch}:{path}", at=origin))
        assert notebook["cells"][0]["metadata"]["tags"] == [INSTALL_TAG], name


def workflow_branch():
    """Return the branch that the workflow pushes: the one that the buttons name."""
    (branch,) = re.findall(r"HEAD:refs/heads/(\S+)", step()["run"])
    theme = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["sphinx"]["config"]
    assert branch == theme["html_theme_options"]["repository_branch"]
    return branch
