#!/usr/bin/env bash
# Resolve every transitive version again: constraints.txt and constraints-cpu.txt.
# Torch and what is built against it stand only in the CPU file, because the NVIDIA image brings
# its own; the CUDA packages that torch names on Linux stand in neither.
set -euo pipefail
cd "$(dirname "$0")/.."

with_torch='^(torch|numpy|scipy|fsspec|mpmath|networkx|sympy|contourpy|optype|numpy-typing-compat|scipy-stubs)=='
cuda='^(nvidia|cuda|triton)'
resolved=$(mktemp)
trap 'rm -f "$resolved"' EXIT

echo 'torch==2.13.0' | uv pip compile --quiet --universal --python-version 3.11 --upgrade \
  --no-header --no-annotate requirements.txt requirements-dev.txt - |
  grep -Ev "$cuda" >"$resolved"

{
  echo '# Every version but those of torch and what is built against it. Made by docker/lock.sh.'
  grep -Ev "$with_torch" "$resolved"
} >constraints.txt
{
  echo '# Torch and what is built against it, without CUDA. Made by docker/lock.sh.'
  grep -E "$with_torch" "$resolved"
} >constraints-cpu.txt
echo "OK: wrote constraints.txt ($(wc -l <constraints.txt) lines), constraints-cpu.txt ($(wc -l <constraints-cpu.txt) lines)"
