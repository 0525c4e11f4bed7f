# Two commands for everybody: `make demo` and `make test`. Both set up .venv first, once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Three processes, for tests wait as much as they work, each with whole files: fixtures that export
# models are shared within a file.
THREE := -n 3 --dist loadfile

.PHONY: demo test test-slow bench models lint types lock image image-gpu template clean

demo: $(READY)
	$(BIN)/pixelmill demo --output demo_out

test: $(READY)
	$(BIN)/python -m pytest $(THREE)

# What takes long: many kills, many processes, memory. CI runs it too.
test-slow: $(READY)
	$(BIN)/python -m pytest $(THREE) -m slow

# Measures pixelmill against its peers and writes docs/benchmark.md: 40 minutes and more, or 7 with
# QUICK=1.
bench: .venv-bench/.ready
	.venv-bench/bin/python -m benchmarks $(if $(QUICK),--quick) --output docs/benchmark.md

.venv-bench/.ready: requirements.lock benchmarks/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock -r benchmarks/requirements.txt
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch .venv-bench/.ready

# Trains the models that come with the project anew; takes half an hour.
models: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" models/shipped/make_models.sh models_out

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

$(READY): requirements.lock setup.py
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v[:2] <= (3, 13) else f"pixelmill needs Python 3.11 to 3.13, this is {v[0]}.{v[1]}; give another by make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(READY)

# For Dataflow, see docs/dataflow.md: the container, with CUDA or without, is built and pushed.
image image-gpu:
	docker build --tag $(IMAGE) --build-arg ACCELERATOR=$(if $(findstring gpu,$@),gpu,cpu) .
	docker push $(IMAGE)

# The Flex Templates: TEMPLATES/segment.json and so on, gs:// or local.
template: $(READY)
	$(BIN)/python -m pipeline.dataflow.template --image $(IMAGE) --output $(TEMPLATES)

# Renews the exact versions: the newest that resolve together.
lock:
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check --upgrade setuptools
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check '.[dev]'
	.venv-lock/bin/python -m pip freeze --all --exclude pip --exclude pixelmill > requirements.lock
	# Beam takes another google-apitools on Python 3.13
	sed -i 's/^\(google-apitools==0.5.31\)$$/\1 ; python_version < "3.13"\ngoogle-apitools==0.5.35 ; python_version >= "3.13"/' requirements.lock
	# What TensorFlow wants besides for GPUs, which only Linux on x86 tells
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check --dry-run --ignore-installed --report .venv-lock/gpu.json --constraint requirements.lock 'tensorflow[and-cuda]'
	.venv-lock/bin/python -c 'import json; made = [p["metadata"] for p in json.load(open(".venv-lock/gpu.json"))["install"]]; print(*sorted(m["name"] + "==" + m["version"] for m in made if m["name"].startswith("nvidia")), sep="\n")' > requirements-gpu.lock
	rm -rf .venv-lock build pixelmill.egg-info

clean:
	rm -rf .venv .venv-bench .venv-lock build dist demo_out models_out pixelmill.egg-info .mypy_cache .ruff_cache .pytest_cache
