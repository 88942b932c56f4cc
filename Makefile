# Each target works from a fresh clone with nothing but Python 3.11 installed.
PYTHON ?= python3
BIN := .venv/bin
LABELS := house, tree, car, boat|ship, sun, moon, star, balloon, fish, flower, mushroom, umbrella, apple, cup, rocket, \
heart, kite, cloud, snowman, cactus, sky, night sky, sea|ocean, grass, sand, snow, road, brick wall, wooden floor, \
stone wall, lava, tiled floor, wheat field, carpet

.PHONY: demo test test-unit lint docs train-mini clean

demo: .venv/core  ## draw six scenes and segment them with the bundled model; look into demo-out/
	$(BIN)/disa picturebook demo-out/scenes --count 6 --size 384
	$(BIN)/disa segment demo-out/scenes --labels "$(LABELS)" --out demo-out --beside --saliency
	@echo "look at demo-out/*_overlay.png"

test: .venv/dev  ## all tests, on all cores, one thread each: torch's own would fight for the same cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -q

test-unit: .venv/dev  ## the tests that start no process and take no more than a few seconds each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -q -m "not slow"

lint: .venv/dev  ## style, types, and which part may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/docs  ## the documentation as a site, in site/; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -q

# glibc would hand every tensor's memory back and fetch it again: a fifth of the time
train-mini: export MALLOC_MMAP_MAX_ = 0
train-mini: export MALLOC_TRIM_THRESHOLD_ = 10000000000
train-mini: export MALLOC_TOP_PAD_ = 500000000
train-mini: .venv/core  ## make the bundled model from scratch (docs/training.md says how long it takes); resumable
	$(BIN)/disa pretrain-clip --out runs/clip
	$(BIN)/disa train mini --clip runs/clip/clip --out runs/mini

.venv/core: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

.venv/dev: .venv/core
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev,plot]"
	touch $@

.venv/docs: .venv/dev
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf .venv demo-out site
