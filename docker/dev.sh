#!/usr/bin/env bash
# The single way in: runs a command from the repository root, with everything it needs installed.
#
#   bash docker/dev.sh                                      a shell
#   bash docker/dev.sh python scripts/ch00_proof_of_life.py all
#
# With a Docker engine the command runs in a container, otherwise natively in .venv.
#   DEV_BACKEND=native|docker   decides that by hand
#   IMAGE=name:tag              another image (one that is missing is built)
#   PYTHON=/path/to/python      the Python that a new .venv is made with
set -euo pipefail
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source docker/lib.sh

main() {
  local why
  case ${DEV_BACKEND:-} in
  native) run_natively "DEV_BACKEND=native" "$@" ;;
  docker) why=$(why_no_engine) || fail "$why" ;;
  inside) exec bash docker/venv.sh .venv-docker "$@" ;; # dev.sh called in its own container
  '') why=$(why_no_engine) || run_natively "$why" "$@" ;;
  *) fail "DEV_BACKEND=$DEV_BACKEND is unknown; leave it unset, or set it to native or docker" ;;
  esac
  run_in_container "$@"
}

# A client is no engine: only an answer counts. `ps` is a question that podman answers as well.
why_no_engine() {
  local answer
  if ! command -v docker >/dev/null; then
    echo "Docker is not installed"
  elif ! answer=$(within 5 docker ps --quiet 2>&1); then
    case $answer in
    *'permission denied'*) echo "no permission to use Docker (sudo usermod -aG docker \$USER, then log in again)" ;;
    *) echo "no Docker engine answers" ;;
    esac
  else
    return 0
  fi
  return 1
}

run_natively() {
  say "running natively in .venv: $1"
  shift
  exec bash docker/venv.sh .venv "$@"
}

run_in_container() {
  local image options
  image=${IMAGE:-$(default_image)}
  build_if_missing "$image"
  options=(--rm --init --interactive --volume "$PWD:/workspace" --workdir /workspace)
  [[ ! -t 0 || ! -t 1 ]] || options+=(--tty)
  [[ ${1:-} != tensorboard ]] || options+=(--publish 6006:6006)
  [[ ${1:-} != mkdocs ]] || options+=(--publish 127.0.0.1:8000:8000 --env MKDOCS_DEV_ADDR=0.0.0.0:8000)
  add_user
  add_gpu "$image"
  add_environment
  exec docker run "${options[@]}" "$image" bash docker/venv.sh .venv-docker "$@"
}

# An image with a registry in its name is someone else's: `docker run` pulls it.
build_if_missing() {
  [[ $1 != *.*/* ]] || return 0
  docker image inspect "$1" >/dev/null 2>&1 && return
  say "building the image $1 (once; minutes)"
  bash docker/build.sh "$1" >&2 || {
    say "building $1 failed; DEV_BACKEND=native bash docker/dev.sh … does without"
    exit 1
  }
}

# Files that the command writes belong to whoever called it.
add_user() {
  options+=(--user "$(id -u):$(id -g)")
  [[ $(id -u) != 0 ]] || return 0
  case $(docker --version) in
  docker* | podman*) # rootless podman, whatever its name; Docker's answer begins with a capital
    options+=(--userns keep-id --security-opt label=disable)
    ;;
  esac
}

# Shared memory and limits as NVIDIA advises for its images.
add_gpu() {
  if [[ $1 != *:mac ]] && has_gpu; then
    options+=(--gpus all --ipc host --ulimit memlock=-1 --ulimit stack=67108864)
  fi
}

add_environment() {
  options+=(--env DEV_BACKEND=inside)
  # The user has neither a name nor a home in the image.
  options+=(--env HOME=/tmp --env USER=dev --env XDG_CACHE_HOME=/tmp/.cache)
  options+=(--env MPLCONFIGDIR=/tmp/matplotlib --env TORCHINDUCTOR_CACHE_DIR=/tmp/torchinductor)
  # MuJoCo fills this in to agree with MUJOCO_GL. The image's value would contradict a command that
  # sets MUJOCO_GL itself.
  options+=(--env "PYOPENGL_PLATFORM=${PYOPENGL_PLATFORM:-}")
  pass_on --env MUJOCO_GL LP_NUM_THREADS OMP_NUM_THREADS CUDA_VISIBLE_DEVICES \
    NVIDIA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES CI PYTEST_ADDOPTS PIP_INDEX_URL \
    PIP_EXTRA_INDEX_URL
}

main "$@"
