# make book    make .venv, get the data, execute the chapters, build the HTML book
# make test    make .venv, run every test
# make lint    ruff, pyright, and whether each planted fault still finds its line
# make bench   what the library costs, as ratios measured side by side
# make archive  the paper's experiments at full length, hours on a CPU; goes on where it was stopped
# make faults  plant faults in the library one at a time: which claims and tests notice? an hour
# make data    download MNIST into data/ (or $GFGD_DATA) and verify it
# make lock    resolve requirements.lock and environment.yml anew
# make clean   remove _build; `make distclean` removes .venv too
#
# PYTHON       the interpreter that .venv is made from (3.11 or newer)
# TORCH_INDEX  a package index that serves CPU-only torch wheels; empty: the usual index

PYTHON      ?= python3
TORCH_INDEX ?=
PYTEST_ARGS ?=

TORCH := torch==2.13.0
VENV  := .venv
PY    := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PIP   := $(PY) -m pip --disable-pip-version-check

.PHONY: book test lint bench archive faults data lock clean distclean
.DEFAULT_GOAL := book

book: $(STAMP)
	$(PY) -m gfgd.book.cli book

test: $(STAMP)
	$(PY) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright --pythonpath $(PY)
	$(PY) -m pytest -q tests/tools/test_planted_faults.py

bench: $(STAMP)
	$(PY) -m benchmarks

archive: $(STAMP)
	$(PY) -m gfgd.book.cli archive --networks fully_connected_linear fully_connected_relu --starts paper 1 2 3
	$(PY) -m gfgd.book.cli archive --networks fully_connected_relu --flows 1 0.8 0.6 0.4 --ratios 1 2 --dtypes float32 --orders 1 2 3
	$(PY) -m gfgd.book.cli archive --ratios 1 2 5
	$(PY) -m gfgd.book.cli archive

faults: $(STAMP)
	$(PY) -m tools.planted_faults

data: $(STAMP)
	$(PY) -m gfgd.book.cli data

# torch first and without a hash, because its wheel differs from index to index; then everything
# else exactly as locked; then gfgd itself, in place.
$(STAMP): requirements.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "gfgd needs Python 3.11 or newer, and this is %d.%d: try  make PYTHON=python3.12" % v[:2])'
	"$(PYTHON)" -m venv $(VENV)
	$(PIP) install $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") "$(TORCH)"
	$(PIP) install --require-hashes --no-deps -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	$(PIP) check
	@touch $(STAMP)

LOCK_VENV := _build/lock-venv

lock:
	mkdir -p _build
	"$(PYTHON)" -m venv $(LOCK_VENV)
	$(LOCK_VENV)/bin/python -m pip install --quiet uv
	echo "$(TORCH)" > $(LOCK_VENV)/torch.txt
	$(LOCK_VENV)/bin/python -m uv pip compile pyproject.toml --all-extras --group build \
	    --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --upgrade \
	    --no-emit-package torch --constraint $(LOCK_VENV)/torch.txt --no-annotate \
	    --custom-compile-command "make lock" --quiet --output-file requirements.lock
	"$(PYTHON)" tools/environment.py

clean:
	rm -rf _build

distclean: clean
	rm -rf $(VENV)
