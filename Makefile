# Two commands do all set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo
# Processes that share the tests; each computes with one thread.
WORKERS ?= 2

.PHONY: setup demo test pytest test-lowest lint clean

setup: $(VENV)/.installed

# uv takes a third of pip's time. It does not read pip's settings, so pip goes on where uv finds no registry.
$(VENV)/.installed: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --upgrade pip uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable ".[test]" || \
		$(BIN)/python -m pip install --quiet --no-compile --editable ".[test]"
	touch $@

demo: setup
	$(BIN)/mm-adapter demo --out $(OUT)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Style is checked beside the tests: most of its time is one process's.
test: setup
	$(MAKE) --jobs 2 lint pytest

pytest: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal \
		--cov --cov-report=term:skip-covered --cov-fail-under=90

# Everything at the lowest version that setup.py allows, in an environment of its own; what passed is recorded.
LOWEST := .venv-lowest
LOWEST_BIN := $(LOWEST)/bin
# A few fast tests of what hangs on other packages: reading, converting, shards, commands, servers, trackers, harnesses.
# What a bare tokenizer.model means is left out: this project reads it itself, and transformers before 5.24 reads it
# otherwise. So is the plan's memory: torch 2.7 does not fuse attention of grouped heads on the CPU, and keeps more.
LOWEST_TESTS := tests/test_lowest_versions.py tests/cli/test_saved_before.py tests/llama/test_tokenizer_layouts.py \
	tests/llama/test_quantization.py tests/adapter/test_peft_conversion.py tests/training/test_trackers.py \
	tests/harness tests/data/test_tables.py tests/data/test_hub.py tests/eval/test_vlmevalkit_table.py \
	tests/serving/test_protocol.py tests/serving/test_description.py tests/serving/test_peft_server.py \
	tests/distributed/test_ranks.py::test_sharded_layers_are_in_parts
LOWEST_CHOICE := not sentence_piece_model and not the_record and not from_the_command_line and not one_curve

$(LOWEST)/.installed: setup.py
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST_BIN)/python -m pip install --quiet --no-compile uv setuptools packaging
	$(LOWEST_BIN)/python scripts/lowest_versions.py > $(LOWEST)/versions.txt
	$(LOWEST_BIN)/uv pip install --quiet --python $(LOWEST_BIN)/python --requirements $(LOWEST)/versions.txt
	$(LOWEST_BIN)/uv pip install --quiet --python $(LOWEST_BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

test-lowest: $(LOWEST)/.installed
	OMP_NUM_THREADS=1 $(LOWEST_BIN)/python -m pytest -p no:cacheprovider -q -m "not slow" -k "$(LOWEST_CHOICE)" --numprocesses $(WORKERS) $(LOWEST_TESTS)
	$(LOWEST_BIN)/python scripts/lowest_versions.py --record

clean:
	rm -rf $(VENV) $(LOWEST) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
