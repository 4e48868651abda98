# Every target works on a fresh clone: it makes the virtual environment it needs.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PB     := src/fuserank/server/pb
PROTOS := $(shell find proto -name '*.proto')
# The API of the last release, which `buf breaking` compares with. A file rather than a tag, so that
# it is there in a clone without history.
RELEASED := proto/released.binpb

# Tests of a file share what they set up, so a file is run by one process; two of them need 6 GB.
SPREAD := -n 2 --dist loadfile

export PIP_DISABLE_PIP_VERSION_CHECK = 1
# TensorFlow and tokenizers write to stderr what nobody asked for.
export TF_CPP_MIN_LOG_LEVEL = 3
export TOKENIZERS_PARALLELISM = false

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint proto proto-check proto-release bench soak clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"fuserank needs Python 3.11 to 3.13, found {v[0]}.{v[1]}: run make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml constraints.txt
	$(BIN)/pip install --progress-bar on -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/pip install --progress-bar on -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(VENV)/.dev  ## the environment with every extra

demo: $(VENV)/.demo  ## MovieLens 100K: fetch, train, export, serve, ask, measure
	$(BIN)/fuserank demo

lint: $(VENV)/.dev  ## style, types, import contracts, the API, generated code
	$(BIN)/ruff check src tests examples
	$(BIN)/ruff format --check src tests examples
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint
	$(BIN)/buf breaking --against $(RELEASED)
	@$(MAKE) --no-print-directory proto-check

check: lint  ## lint and the unit tests: before every commit
	$(BIN)/pytest -q $(SPREAD) -m 'not e2e and not gpu'

test: lint  ## everything, on the real data
	$(BIN)/pytest $(SPREAD) -m 'not gpu'

# protoc lays files out by protobuf package, fuserank/v1/ and inference/, which would be a second
# `fuserank`, and an `inference` at the top: they are moved into $(PB) flat, and import each other
# from there. $(1) is the folder to write to.
define generate
raw=$$(mktemp -d) && trap 'rm -rf "$$raw"' EXIT && \
$(BIN)/python -m grpc_tools.protoc -Iproto --python_out="$$raw" --pyi_out="$$raw" --grpc_python_out="$$raw" $(PROTOS) && \
find "$$raw" -name '*_pb2*' | while read -r file; do \
  sed -E 's/^from (fuserank\.v1|inference) import/from fuserank.server.pb import/' "$$file" > "$(1)/$$(basename "$$file")" || exit 1; \
done
endef

proto: $(VENV)/.dev  ## regenerate the gRPC code
	@$(call generate,$(PB))

proto-release: $(VENV)/.dev  ## take the API as released: what comes after must not break it
	$(BIN)/buf build --exclude-source-info --output $(RELEASED)

proto-check: $(VENV)/.dev  ## compare the committed gRPC code with the protos
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && ($(call generate,$$fresh)) && \
	diff -ru --exclude=__init__.py --exclude=__pycache__ $(PB) "$$fresh" || \
	{ echo "$(PB) is not what $(PROTOS) generates: run 'make proto' and commit the result" >&2; exit 1; }

RESULTS := src/fuserank/bench/results
CACHE   := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/fuserank

bench: $(VENV)/.dev demo  ## latency against the naive graph and the floor
	$(BIN)/fuserank bench --synthetic-items 1000000 --out $(RESULTS)/synthetic-1000000.json
	cd $(CACHE) && $(abspath $(BIN))/fuserank bench demo/movielens.bundle \
	  --dataset movielens-100k/dataset.toml --out movielens-100k.json
	mv $(CACHE)/movielens-100k.json $(RESULTS)/
	$(BIN)/python -m fuserank.bench.scan $(RESULTS)/scan/synthetic.json
	$(BIN)/python -m fuserank.bench.readme

soak: $(VENV)/.dev  ## half an hour of mixed calls: no failed call, flat memory
	$(BIN)/python -m fuserank.bench.soak $(RESULTS)/serving/soak.json --seconds 1800

clean:  ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
