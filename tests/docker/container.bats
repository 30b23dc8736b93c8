#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031 # single quotes are for the inner shell, tests are subshells
# dev.sh and build.sh with a Docker engine: which image, which options, what is built.

load helpers

@test "without a GPU: the mac image, no GPU options" {
  dev python -V
  called '^docker run .* robotics-rl:mac bash docker/venv.sh .venv-docker python -V$'
  not_called '--gpus'
  not_called '--ipc'
}

@test "with a GPU: the NVIDIA image, the GPU, and NVIDIA's limits" {
  has nvidia-smi
  dev python -V
  called '^docker run .*--gpus all --ipc host --ulimit memlock=-1 .* robotics-rl:latest bash'
}

@test "an nvidia-smi that does not work is no GPU" {
  has nvidia-smi
  FAKE_GPU=9 dev true
  called ' robotics-rl:mac '
  not_called '--gpus'
}

@test "the mac image gets no GPU, even where there is one" {
  has nvidia-smi
  IMAGE=robotics-rl:mac dev true
  not_called '--gpus'
}

@test "IMAGE overrides" {
  IMAGE=mine:1 dev true
  called '^docker run .* mine:1 bash docker/venv.sh'
}

@test "an image that is there is not built" {
  dev true
  called '^docker image inspect robotics-rl:mac$'
  not_called '^docker build'
}

@test "a missing image is built first, and the build's output is no output of the command" {
  FAKE_IMAGE=missing run --separate-stderr dev true
  [ "$status" -eq 0 ]
  [ -z "$output" ]
  called '^docker build .*--tag robotics-rl:mac --file docker/Dockerfile.mac \.$'
  called '^docker run '
}

@test "a build that fails ends it, and says what to do" {
  FAKE_IMAGE=missing FAKE_BUILD=7 run dev true
  [ "$status" -eq 1 ]
  [[ $output == *DEV_BACKEND=native* ]]
  not_called '^docker run'
}

@test "an image of some registry is left to docker run" {
  FAKE_IMAGE=missing IMAGE=nvcr.io/nvidia/pytorch:25.12-py3 dev true
  not_called '^docker build'
}

@test "the exit code is the command's" {
  FAKE_RUN=5 run dev false
  [ "$status" -eq 5 ]
}

@test "arguments survive: spaces, quotes, globs, empty ones" {
  dev python -c 'print("a b")' '' '*' "it's"
  called " python -c print\\\\(\\\\\"a\\\\ b\\\\\"\\\\) '' \\\\\* it\\\\'s$"
}

@test "it runs as the host's user, in the mounted repository, from any folder" {
  cd /
  dev true
  called '--user 1000:1001 '
  called '--volume .*/a\\ repository:/workspace --workdir /workspace '
}

@test "rootless podman under the name of docker keeps the user's id" {
  FAKE_VERSION='docker version 4.3.1' dev true
  called '--userns keep-id'
  : >"$LOG"
  dev true
  not_called '--userns'
}

@test "without a terminal: no --tty" {
  dev true </dev/null
  not_called '--tty'
  called '--init --interactive'
}

@test "a terminal on both sides: --tty" {
  in_terminal 'bash "$0"'
  called '--tty'
}

@test "a terminal that only reads or only writes is none" {
  in_terminal 'bash "$0" | cat'
  in_terminal 'bash "$0" </dev/null'
  not_called '--tty'
}

@test "variables that are set are passed on" {
  MUJOCO_GL=osmesa CUDA_VISIBLE_DEVICES=1 HTTPS_PROXY=http://proxy:3128 dev true
  called '--env MUJOCO_GL '
  called '--env CUDA_VISIBLE_DEVICES '
  called '--env HTTPS_PROXY '
}

@test "variables that are not set leave the image's own alone" {
  dev true
  not_called '--env MUJOCO_GL'
  not_called '--env NVIDIA_DRIVER_CAPABILITIES'
  not_called '--env HTTPS_PROXY'
}

@test "PYOPENGL_PLATFORM is the host's, or left to MuJoCo" {
  dev true
  called "--env PYOPENGL_PLATFORM= "
  PYOPENGL_PLATFORM=osmesa dev true
  called '--env PYOPENGL_PLATFORM=osmesa '
}

@test "the user without a name has writable caches" {
  dev true
  called '--env HOME=/tmp .*--env XDG_CACHE_HOME=/tmp.*--env MPLCONFIGDIR=/tmp.*--env TORCHINDUCTOR_CACHE_DIR=/tmp'
}

@test "TensorBoard's port is published, and only for TensorBoard" {
  dev tensorboard --logdir runs --bind_all
  called '--publish 6006:6006'
  : >"$LOG"
  dev python -m http.server
  not_called '--publish'
}

@test "the tutorials are seen from this machine, and from no other" {
  dev mkdocs serve
  called '--publish 127.0.0.1:8000:8000 --env MKDOCS_DEV_ADDR=0.0.0.0:8000'
}

@test "without a command: the inner script gets none" {
  dev
  called 'bash docker/venv.sh .venv-docker$'
}

@test "DEV_BACKEND=docker without an engine: one line, exit 2" {
  FAKE_ENGINE=none DEV_BACKEND=docker run dev true
  [ "$status" -eq 2 ]
  [ "${#lines[@]}" -eq 1 ]
}

@test "build.sh: the tag decides, then the host" {
  build robotics-rl:latest
  called '--tag robotics-rl:latest --file docker/Dockerfile \.$'
  build mine:1
  called '--tag mine:1 --file docker/Dockerfile.mac \.$'
  has nvidia-smi
  build mine:2
  called '--tag mine:2 --file docker/Dockerfile \.$'
  build robotics-rl:mac
  called '--tag robotics-rl:mac --file docker/Dockerfile.mac \.$'
}

@test "build.sh passes BASE_IMAGE on, if set" {
  build
  not_called 'BASE_IMAGE'
  BASE_IMAGE=python:3.12-slim build
  called '--build-arg BASE_IMAGE'
}
