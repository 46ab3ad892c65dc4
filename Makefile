# `make book` builds the book, `make test` tests everything; both set up .venv first. More: `make help`.
# Written for GNU make 3.81 and a POSIX shell.

SEEDS ?= 5
CLAIMS ?= base removal ratio batch_size generality majorities sigmoid confidence loss_choice training_time mechanism remedies
JOBS ?= 2
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	"$$p" -c '$(PYTHON_RANGE)' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
PYTHON_RANGE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))

BIN := .venv/bin
BUILD := book/_build
STORE := .replication
CODE := $(shell find replication -type f -not -path '*/__pycache__/*')
PYTHON_CODE := replication tests benchmarks
PAGES := _config.yml _toc.yml $(shell find book -type f -not -path 'book/_build/*' \
	-not -path '*/.ipynb_checkpoints/*')
RESULTS := $(shell find results -type f 2>/dev/null)

.DELETE_ON_ERROR:
.PHONY: help book test lint types test-gpu faults notebooks lock setup clean

help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

book: ## Train the first SEEDS=5 digits seeds, execute the pages, build the HTML. FRESH=1 starts over.
	@$(if $(filter 1,$(FRESH)),rm -rf $(STORE) $(BUILD))
	@$(MAKE) --no-print-directory $(BUILD)/rendered
	@$(BIN)/replication verdicts
	@$(BIN)/replication reproduced
	@echo "The book: $(CURDIR)/$(BUILD)/html/index.html"

test: lint types ## Check style, format and types, then run all tests, the notebooks' outputs included.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadscope \
		--nbval --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg tests $(wildcard book/*.ipynb)

lint: .venv/installed ## Check style and format; FIX=1 mends what can be mended by itself.
	$(BIN)/ruff check $(if $(filter 1,$(FIX)),--fix) $(PYTHON_CODE)
	$(BIN)/ruff format $(if $(filter 1,$(FIX)),,--check) $(PYTHON_CODE)

types: .venv/installed ## Check types.
	$(BIN)/pyright

test-gpu: .venv/installed ## Run the tests that need a CUDA device.
	$(BIN)/python -m pytest -m gpu -rs tests

faults: .venv/installed ## Count 200 kills, 2,000 flipped bytes, 2,000 fuzzed calls and more; minutes.
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/faults.py

notebooks: .venv/installed ## Execute the notebooks and rewrite their committed outputs.
	$(BIN)/replication execute --in-place

setup: .venv/installed ## Only set up .venv.

lock: .venv/installed ## Pin every dependency anew; UPGRADE=1 takes the newest versions.
	$(call with_uv,pip compile --universal --generate-hashes --no-annotate --no-header --no-emit-index-url \
		--extra train --extra book --extra test --extra onnx $(if $(filter 1,$(UPGRADE)),--upgrade) --quiet pyproject.toml -o requirements.lock)

clean: ## Remove what was built; .venv and the trained runs stay.
	rm -rf $(BUILD) _build .pytest_cache .hypothesis *.egg-info
	find replication tests -name __pycache__ -prune -exec rm -rf {} +

$(BUILD)/trained-$(SEEDS): .venv/installed $(CODE)
	$(BIN)/replication run $(CLAIMS) --settings digits --networks simple_cnn --seeds $(SEEDS)
	$(BIN)/replication run generality --settings digits --networks mlp,logistic --seeds $(SEEDS)
	$(BIN)/replication run $(filter-out training_time mechanism remedies,$(CLAIMS)) --settings digits \
		--networks efficientnet_lite0:imagenet:head --seeds $(SEEDS)
	@mkdir -p $(@D) && touch $@

$(BUILD)/rendered: $(BUILD)/trained-$(SEEDS) $(PAGES) $(RESULTS)
	$(BIN)/replication execute $(if $(filter 1,$(FRESH)),,--changed)
	rm -rf $(BUILD)/.doctrees $(BUILD)/html
	$(BIN)/jupyter-book build $(BUILD)/executed --path-output book -W --keep-going -n -q
	@touch $@

# The machine's uv, or one put into .venv.
with_uv = uv=$$(command -v uv || echo $(BIN)/uv); \
	[ -x "$$uv" ] || $(BIN)/python -m pip install --quiet uv; "$$uv" $(1)

.venv/installed: requirements.lock pyproject.toml | .venv/bin/python
	@$(call with_uv,pip install --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock)
	@$(call with_uv,pip install --python $(BIN)/python --no-deps --no-build-isolation -e .)
	@touch $@

.venv/bin/python:
	@if ! "$(PYTHON)" -c '$(PYTHON_RANGE)' >/dev/null 2>&1; then \
		echo "The book needs Python 3.11, 3.12 or 3.13; found $$("$(or $(PYTHON),python3)" --version 2>/dev/null \
			|| echo none): name one by 'make PYTHON=/path/to/python'." >&2; exit 1; fi
	@if command -v uv >/dev/null; then uv venv --quiet --allow-existing \
			--python "$$("$(PYTHON)" -c 'import sys; print(sys.executable)')" .venv; \
		else "$(PYTHON)" -m venv .venv; fi || { rm -rf .venv; \
		echo "Python's venv module did not work (on Debian and Ubuntu: apt-get install python3-venv)." >&2; \
		exit 1; }
