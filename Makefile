# Start these with: bash docker/dev.sh make check
.PHONY: check lint types test format lock

check: lint types test

lint:
	ruff check .
	ruff format --check .
	lint-imports
	python scripts/report.py --check

types:
	mypy

test:
	pytest

format:
	ruff check --fix .
	ruff format .
	shfmt -i 2 -w docker/*.sh .ci/run

lock:
	bash docker/lock.sh
