# The habits of the day. `make serve` and `make test` do their own set-up; nothing else has to be there but Python 3.11
# and make.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name))))
HOST ?= 127.0.0.1
PORT ?= 8000
SECONDS ?= 60
VENV := .venv
BIN := $(VENV)/bin

.PHONY: serve models test test-clients test-engines check format pages lock docs bench fuzz clean

serve: $(VENV)/.serve
	-@$(BIN)/ark pull >/dev/null
	$(BIN)/ark serve --host $(HOST) --port $(PORT)

# The default models: into $$ARK_MODELS, or the user's cache. Those that are here already are left alone.
models: $(VENV)/.serve
	@$(BIN)/ark pull --config /dev/null >/dev/null

# In two processes, a file of tests in one of them: much of a test's time is that of the servers it starts. Their order
# is that of tests/conftest.py.
test: $(VENV)/.dev models
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_OPTIONS)

# Other people's clients from npm, against a server on this machine. It needs Node 20 or newer.
test-clients: $(VENV)/.dev $(VENV)/.agents $(VENV)/.openai-tests models tests/clients/npm/node_modules
	$(BIN)/pytest -m npm $(PYTEST_OPTIONS) tests/clients

# The backend `remote` against vLLM, which `make test` has no room for: 3.5 GB, and a minute to start.
test-engines: $(VENV)/.dev $(VENV)/.vllm
	$(BIN)/pytest -m engines $(PYTEST_OPTIONS) tests/engines

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy examples/*.py
	$(BIN)/lint-imports --no-logo --cache-dir .cache/import-linter

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The pages of docs/ and the files of the package that are made from the code.
pages: $(VENV)/.dev
	$(BIN)/python tools/docs/write.py
	$(BIN)/python -m tools.openapi

# requirements.txt and requirements-cuda.txt, from constraints.txt.
lock: $(VENV)/.lock
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tools/lock.py

# Into build/docs.
docs: $(VENV)/.dev
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs build/docs

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/engine/concurrency.py
	$(BIN)/python benchmarks/embeddings/compare.py
	$(BIN)/python benchmarks/grammar/mask.py
	$(BIN)/python benchmarks/server/cost.py
	$(BIN)/python benchmarks/sessions/store.py
	$(BIN)/python benchmarks/sessions/twelve_turns.py
	$(BIN)/python benchmarks/transcription/compare.py

# Each for SECONDS; what they find lies in fuzz-finds, and belongs in tests/fuzz/seeds when it is mended.
fuzz: $(VENV)/.fuzz
	mkdir -p fuzz-finds
	for target in $(notdir $(wildcard tests/fuzz/seeds/*)); do \
		mkdir -p $(VENV)/corpus/$$target && $(BIN)/python tests/fuzz/fuzz.py $$target $(VENV)/corpus/$$target \
			tests/fuzz/seeds/$$target -max_total_time=$(SECONDS) -artifact_prefix=fuzz-finds/$$target- || exit 1; \
	done

clean:
	rm -rf $(VENV) tests/clients/npm/node_modules

$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ARK needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	touch $@

# A stamp is as new as what it was made from, so that a second run has nothing to do.
$(VENV)/.serve: $(VENV)/.python pyproject.toml constraints.txt
	@echo 'Installing ARK and its engines into $(VENV), 3 GB or more: this takes some minutes, and says nothing until then.'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	touch $@

$(VENV)/.dev: $(VENV)/.serve pyproject.toml conformance/pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,otel,remote]' --editable ./conformance \
		--group dev --group browser --group docs --group mounts --group clients
	touch $@

tests/clients/npm/node_modules: tests/clients/npm/package-lock.json
	cd tests/clients/npm && npm ci --no-audit --no-fund --silent
	touch $@

# By itself: what it needs brings another module `multipart`.
$(VENV)/.agents: tests/clients/python/requirements.txt
	$(PYTHON) -m venv $(VENV)/agents
	$(VENV)/agents/bin/python -m pip install --quiet --requirement tests/clients/python/requirements.txt
	touch $@

$(VENV)/.vllm: tests/engines/install_vllm.sh
	tests/engines/install_vllm.sh $(VENV)/vllm
	touch $@

# The client of OpenAI with its tests, which are in its sdist alone.
$(VENV)/.openai-tests: tests/clients/python/openai_tests.txt
	rm -rf $(VENV)/openai-tests
	$(PYTHON) -m venv $(VENV)/openai-tests
	$(VENV)/openai-tests/bin/python -m pip install --quiet --requirement tests/clients/python/openai_tests.txt
	$(VENV)/openai-tests/bin/python -m pip download --quiet --no-deps --no-binary openai --dest $(VENV)/openai-tests \
		"openai==$$($(VENV)/openai-tests/bin/python -c 'import openai; print(openai.__version__)')"
	tar -xzf $(VENV)/openai-tests/openai-*.tar.gz -C $(VENV)/openai-tests
	touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group bench
	touch $@

$(VENV)/.lock: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group lock
	touch $@

$(VENV)/.fuzz: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group fuzz
	touch $@
