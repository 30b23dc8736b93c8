#!/usr/bin/env bash
# venv.sh FOLDER [command…]: brings the virtual environment FOLDER up to date and runs the command
# in it. dev.sh calls this, natively (.venv) or in the container (.venv-docker).
set -euo pipefail
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source docker/lib.sh
source docker/debian.sh

venv=$1
shift
python=$venv/bin/python
stamp=$venv/.requirements.sha256
cpu_index=https://download.pytorch.org/whl/cpu
# Called from within the environment, as from a shell of dev.sh: it is not made with its own Python.
bin=$PWD/$venv/bin
PATH=${PATH//"$bin:"/}

main() {
  local image='' place files dev=
  [[ $venv == .venv ]] || image=$(image_packages)
  ! needs_dev "$@" || dev=dev
  # An environment cannot move, nor change its Python: elsewhere it has to be made again.
  place=$(echo "$PWD $image" | sha256)
  files=$(cat {requirements,requirements-dev,constraints,constraints-cpu}.txt | sha256)
  if ! up_to_date; then
    { exec 9>"$venv.lock"; } 2>/dev/null ||
      fail "cannot write to $PWD, where $venv belongs; change its permissions, or clone elsewhere"
    trap 'exit 130' INT # pip turns Ctrl-C into an ordinary failure
    locked_install
    trap - INT
    exec 9>&-
  fi
  enter "$@"
}

# A shell may need anything; otherwise the tools of requirements-dev.txt are looked for by name.
needs_dev() {
  local edge='[^[:alnum:]_.-]' tools
  tools='pytest|make|ruff|mypy|mkdocs|pre-commit|lint-imports|uv|shellcheck|shfmt|hadolint'
  tools="$edge($tools)$edge"
  (($# == 0)) || [[ " $* " =~ $tools ]]
}

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d' ' -f1; }

# What must stay as the image has it: the CUDA build of torch and the numpy it was built for.
image_packages() {
  python3 - <<'PYTHON'
import sys
from importlib import metadata

print("#", sys.executable, sys.version.split()[0])
for name in ("torch", "numpy"):
    try:
        print(f"{name}=={metadata.version(name)}")
    except metadata.PackageNotFoundError:
        pass
PYTHON
}

# The stamp says where the environment was made, from which files, and whether with the dev tools.
up_to_date() {
  local had_place had_files had_dev
  [[ -x $python && -f $stamp ]] || return
  read -r had_place had_files had_dev <"$stamp" || return
  [[ $had_place == "$place" && $had_files == "$files" && ($had_dev == dev || -z $dev) ]]
}

locked_install() {
  local base had=
  base=$(base_python)
  lock "$base"
  ! up_to_date || return 0 # another run did it meanwhile
  SECONDS=0
  if same_place; then
    say "bringing $venv up to date …"
    had=$(<"$stamp")
  else
    say "making $venv, about 2 minutes …"
    make_venv "$base"
  fi
  rm -f "$stamp" # whoever is killed from here on leaves an environment that is made again
  if ! install; then
    [[ -z $had ]] || echo "$had" >"$stamp"
    say "installing failed, see above; the same command tries again"
    exit 1
  fi
  [[ $venv != .venv ]] || install_rendering
  echo "$place $files $dev" >"$stamp"
  say "ready after $SECONDS s"
}

same_place() { [[ -x $python && -f $stamp && $(<"$stamp") == "$place "* ]]; }

# The kernel gives the lock up with the last process that holds descriptor 9: it is never stale.
# Python asks for it because macOS has no flock(1).
lock() {
  "$1" -c '
import fcntl, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("dev.sh: another run is installing, waiting for it", file=sys.stderr)
    fcntl.flock(9, fcntl.LOCK_EX)
'
}

base_python() {
  local candidate candidates=(python3.13 python3.12 python3.11 python3 python)
  [[ $venv == .venv ]] || candidates=(python3)
  [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    if is_usable "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  fail "no Python 3.11, 3.12 or 3.13 found (tried ${candidates[*]}); install one or Docker, or name one: PYTHON=/path/to/python3.12"
}

# MuJoCo 3.6.0 has no wheels for Python 3.14.
is_usable() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null
}

make_venv() {
  local options=(--clear)
  ! image_has_torch || options+=(--system-site-packages)
  "$1" -c 'import ensurepip' 2>/dev/null || install_venv_module "$1"
  "$1" -m venv "${options[@]}" "$venv"
}

image_has_torch() { [[ $image == *torch==* ]]; }

install() {
  local constraints=(--constraint constraints.txt)
  if image_has_torch; then
    echo "$image" >"$venv/image-packages.txt"
    constraints+=(--constraint "$venv/image-packages.txt")
  else
    constraints+=(--constraint constraints-numpy.txt)
    if ! has_gpu; then
      constraints+=(--constraint constraints-cpu.txt)
      install_cpu_torch
    fi
  fi
  say "the packages of requirements.txt …"
  pip_install "${constraints[@]}" --requirement requirements.txt &&
    pip_install --no-deps --no-build-isolation --editable . &&
    { [[ -z $dev ]] || install_dev "${constraints[@]}"; } &&
    say "torch $(version_of torch)"
}

install_dev() {
  say "the tools of requirements-dev.txt …"
  pip_install "$@" --requirement requirements-dev.txt
}

# On Linux the default index has only the CUDA build, several GB; PyTorch's own has one without.
install_cpu_torch() {
  local installed
  [[ $(uname) == Linux ]] || return 0
  installed=$(version_of torch 2>/dev/null) || true
  ! grep -qx "torch==${installed%%+*}" constraints-cpu.txt || return 0
  if answers "$cpu_index/torch/"; then
    say "torch from PyTorch's index of CPU builds, about 200 MB …"
    pip_install --index-url "$cpu_index" --no-deps --constraint constraints-cpu.txt torch && return
  fi
  say "PyTorch's index of CPU builds does not answer; the default index may bring the CUDA build …"
}

answers() {
  within 5 "$python" -c "from urllib.request import urlopen; urlopen('$1', timeout=4)" 2>/dev/null
}

pip_install() { pip install --quiet --no-warn-conflicts "$@" >&2; }

# NVIDIA's images constrain pip to their own versions of everything; ours are in constraints*.txt.
pip() { PIP_CONSTRAINT='' "$python" -m pip --disable-pip-version-check "$@"; }

version_of() { "$python" -c "from importlib.metadata import version; print(version('$1'))"; }

enter() {
  export VIRTUAL_ENV=$PWD/$venv PATH=$bin:$PATH
  export NO_MKDOCS_2_WARNING=1 # the theme's notice about other programs; the versions are locked
  unset PYTHONHOME
  # The shell starts from the environment, not from a ~/.bashrc that may put another Python first.
  (($#)) || exec bash --rcfile "$bin/activate"
  exec "$@"
}

main "$@"
