import tomllib

from tools.environment import ROOT, environment, pins, torch_pin


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_environment_yml_and_the_lock_agree():
    expected = environment(read("requirements.lock"), read("Makefile"))
    assert read("environment.yml") == expected, "run `make lock`"


def test_torch_is_the_same_everywhere():
    project = tomllib.loads(read("pyproject.toml"))
    (stated,) = project["tool"]["uv"]["dependency-metadata"]
    assert torch_pin(read("Makefile")) == f"torch=={stated['version']}"


def test_everything_in_the_lock_has_a_hash_and_torch_is_not_in_it():
    lock = read("requirements.lock")
    assert lock.count(" \\\n    --hash=sha256:") >= len(pins(lock)) > 50
    assert not any(pin.startswith(("torch==", "nvidia-")) for pin in pins(lock))
    for line in lock.splitlines():
        assert line.startswith(("#", "    --hash=sha256:")) or "==" in line, line


def test_the_lock_names_no_host():
    assert "://" not in read("requirements.lock")
    assert "://" not in read("environment.yml")
