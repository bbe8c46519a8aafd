# Every target sets up what it needs: a virtual environment in .venv with the versions of constraints.txt.
# The network is used for the package index alone, and only when pyproject.toml or constraints.txt have changed.

BIN := .venv/bin
READY := .venv/.ready
PYTHONS := python3 python3.11 python3.12 python3.13 python3.14
NEW_ENOUGH := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

.PHONY: help demo test check bench
.DELETE_ON_ERROR:

help:
	@echo "make demo    train, score and search a small set of real images, in about a minute once installed"
	@echo "make test    the whole test suite, on two cores"
	@echo "make check   format, lint, types and tests: what must be clean before a commit"
	@echo "make bench   speed and memory of views and loss, beside the peers that are installed"

demo: $(READY)
	@$(BIN)/likeness demo

# One thread a worker: two workers fill two cores, and sums do not depend on the number of cores.
test: $(READY)
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: $(READY)
	@scripts/check

bench: $(READY)
	@for each in views objective; do echo "== benchmarks/$$each.py"; $(BIN)/python benchmarks/$$each.py || exit 1; done

$(READY): pyproject.toml constraints.txt
	@{ $(BIN)/python -c '$(NEW_ENOUGH)' && $(BIN)/python -m pip --version; } >/dev/null 2>&1 || { \
	  python=; for each in $(PYTHONS); do \
	    if "$$each" -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then python="$$each"; break; fi; \
	  done; \
	  if [ -z "$$python" ]; then \
	    echo "likeness needs Python 3.11 or newer with its venv module; none of these is it: $(PYTHONS)" >&2; \
	    echo "(Debian and Ubuntu: apt install python3 python3-venv)" >&2; \
	    exit 1; \
	  fi; \
	  echo "set-up: .venv with $$("$$python" --version)"; \
	  "$$python" -m venv --clear .venv; \
	}
	@echo "set-up: installing the versions of constraints.txt (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraints constraints.txt --editable '.[dev]'
	@touch $@
