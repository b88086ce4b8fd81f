# Every target sets itself up in a fresh clone: a virtual environment in .venv, pinned installs, the kernel inside it.
PYTHON   ?= python3
PROFILE  ?= mini
NOTEBOOK ?= all
SWEEP    ?= sweeps/beta.yaml
BIN       = .venv/bin
LAB      ?=
TORCH     = torch==2.13.0  # a CPU-only machine elsewhere may add the PyTorch CPU index; see the README

STRIP     = $(BIN)/nbstripout -t --keep-id --extra-keys "$(addprefix metadata.language_info.,version codemirror_mode \
  file_extension mimetype nbconvert_exporter pygments_lexer)"


.PHONY: figures verify test lab sweep record lock site browser-test
figures: .venv/ready  ## execute the notebooks (PROFILE=, NOTEBOOK=) with papermill
	$(BIN)/boostlib run $(NOTEBOOK) --profile $(PROFILE)

verify: figures       ## the same, then hold the tables against the recorded ones
	$(BIN)/boostlib verify --profile $(PROFILE)

test: .venv/ready     ## ruff, the floors of the house, pytest, nbval
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports
	$(BIN)/pytest
	$(BIN)/pytest --nbval-lax --nbval-kernel-name boostlib --nbval-cell-timeout 600 notebooks

lab: .venv/ready      ## JupyterLab on the start page, with the one kernel (LAB="--no-browser --port 8888")
	$(BIN)/jupyter lab --allow-root --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb \
	  --KernelSpecManager.ensure_native_kernel=False --KernelSpecManager.allowed_kernelspecs=boostlib \
	  --MultiKernelManager.default_kernel_name=boostlib $(LAB)

sweep: .venv/ready    ## many parameter sets of one notebook (SWEEP=sweeps/beta.yaml), resumable
	$(BIN)/boostlib sweep $(SWEEP)

record: .venv/ready   ## copy finished notebooks, tables and figures to papermill_runs/ and figures/, for committing
	$(BIN)/boostlib record --profile $(PROFILE)

lock: .venv/ready     ## after a change in pyproject.toml: requirements.lock and environment.yml
	$(BIN)/pip install -q uv && PATH=$(BIN):$$PATH $(BIN)/python tools/lock.py

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "boostlib needs Python 3.11 or newer, this is %d.%d: make PYTHON=python3.x" % v[:2] or 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q $(TORCH)
	$(BIN)/python -m pip install -q --no-deps -r requirements.lock
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	$(BIN)/python -m ipykernel install --sys-prefix --name boostlib --display-name boostlib
	@git config filter.nbstripout.clean '$(STRIP)' 2>/dev/null || true  # for .gitattributes
	touch $@

site: .venv/ready     ## the records as static pages: runs/site/index.html
	$(BIN)/python tools/site.py

browser-test: site    ## JupyterLab and the site in a headless chromium; screenshots in runs/browser/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest tests/browser
