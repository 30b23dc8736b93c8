#!/usr/bin/env bash
# Resolve every transitive version again. Three files, because an image may bring its own torch:
#   constraints.txt         used everywhere
#   constraints-numpy.txt   numpy and what is built against it: not where the image brings torch
#   constraints-cpu.txt     torch and what it needs: only where there is no NVIDIA GPU
# The CUDA packages that torch names on Linux stand in none of them.
set -euo pipefail
cd "$(dirname "$0")/.."

numpy='^(numpy|scipy|contourpy|optype|numpy-typing-compat|scipy-stubs)=='
torch='^(torch|fsspec|mpmath|networkx|sympy)=='
cuda='^(nvidia|cuda|triton)'

resolved=$(echo 'torch==2.13.0' | uv pip compile --quiet --universal --python-version 3.11 \
  --upgrade --no-header --no-annotate requirements.txt requirements-dev.txt - | grep -Ev "$cuda")

write() {
  local file=$1
  shift
  { echo "# Made by docker/lock.sh, which says what this file is for." && grep "$@" <<<"$resolved"; } \
    >"$file"
  echo "OK: wrote $file ($(wc -l <"$file") lines)"
}

write constraints.txt -Ev "$numpy|$torch"
write constraints-numpy.txt -E "$numpy"
write constraints-cpu.txt -E "$torch"
