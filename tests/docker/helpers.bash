# shellcheck shell=bash
# A copy of the scripts in a small repository, and a PATH that holds nothing but fakes and the few
# tools the scripts may count on. Nothing is downloaded, no container starts.

bats_require_minimum_version 1.5.0

setup_file() {
  cd "$BATS_TEST_DIRNAME" || return
  local tool tools=("$PWD/fakes/"{docker,id,ldconfig})
  for tool in bash cat cp cut dirname echo env grep mkdir rm sh sleep true uname; do
    tools+=("$(type -P "$tool")")
  done
  tools+=("$(type -P sha256sum || type -P shasum)")
  mkdir "$BATS_FILE_TMPDIR/bin" "$BATS_FILE_TMPDIR/a repository"
  ln -s "${tools[@]}" "$BATS_FILE_TMPDIR/bin"
  ln -s "$PWD/fakes/python" "$BATS_FILE_TMPDIR/bin/python3.12"
  ln -s "$PWD/fakes/python" "$BATS_FILE_TMPDIR/bin/python3"
  cp -R ../../docker "$BATS_FILE_TMPDIR/a repository/docker"
  for file in requirements requirements-dev constraints constraints-cpu; do
    echo "# $file" >"$BATS_FILE_TMPDIR/a repository/$file.txt"
  done
  [[ -n ${REAL_PYTHON:-} ]] || REAL_PYTHON=$(python3 -c 'import sys; print(sys.executable)')
  export REAL_PYTHON
}

setup() {
  cp -R "$BATS_FILE_TMPDIR/." "$BATS_TEST_TMPDIR"
  REPO="$BATS_TEST_TMPDIR/a repository"
  BIN=$BATS_TEST_TMPDIR/bin
  FAKES=$BATS_TEST_DIRNAME/fakes
  export LOG=$BATS_TEST_TMPDIR/log
  : >"$LOG"
  unset DEV_BACKEND IMAGE BASE_IMAGE PYTHON PIP_CONSTRAINT MUJOCO_GL PYOPENGL_PLATFORM CI \
    CUDA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY
}

# The machine also has these.
has() { for fake in "$@"; do ln -s "$FAKES/$fake" "$BIN/$fake"; done; }

dev() { (start "$@"); }

# In the background `start … &` is dev.sh itself, so that $! is its process.
start() { PATH=$BIN exec bash "$REPO/docker/dev.sh" "$@"; }

build() { PATH=$BIN bash "$REPO/docker/build.sh" "$@"; }

inside() { PATH=$BIN bash "$REPO/docker/venv.sh" .venv-docker "$@"; }

# in_terminal COMMAND: $0 in it is dev.sh.
in_terminal() {
  PATH=$BIN "$REAL_PYTHON" -c 'import pty, sys; pty.spawn(["bash", "-c", *sys.argv[1:]])' \
    "$1" "$REPO/docker/dev.sh"
}

# How many calls in the log match the pattern.
calls() { grep -c -- "$1" "$LOG" || true; }

called() { grep -q -- "$1" "$LOG" || {
  echo "no call matches: $1" && cat "$LOG" && false
}; }

not_called() { ! grep -- "$1" "$LOG"; }
