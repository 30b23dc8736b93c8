#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031 # single quotes are for the inner shell, tests are subshells
# dev.sh without a Docker engine: why it runs natively, what it installs and when.

load helpers

export FAKE_ENGINE=none

@test "a client without an engine: native, and one line says why" {
  run --separate-stderr dev bash -c 'echo out'
  [ "$output" = out ]
  [ "${stderr_lines[0]}" = "dev.sh: running natively in .venv: no Docker engine answers" ]
  run --separate-stderr dev true
  [ "${#stderr_lines[@]}" -eq 1 ]
}

@test "no Docker at all: native" {
  rm "$BIN/docker"
  run dev true
  [ "$status" -eq 0 ]
  [[ ${lines[0]} == *"Docker is not installed" ]]
}

@test "no permission for Docker: native, with the remedy" {
  FAKE_ENGINE=denied run dev true
  [[ ${lines[0]} == *"sudo usermod -aG docker"* ]]
}

@test "an engine that hangs is none" {
  ln -sf "$(type -P true)" "$BIN/sleep" # the seconds pass at once
  FAKE_ENGINE=hangs run dev true
  [ "$status" -eq 0 ]
  [[ ${lines[0]} == *"no Docker engine answers" ]]
}

@test "DEV_BACKEND=native does not even ask Docker" {
  FAKE_ENGINE='' DEV_BACKEND=native dev true
  not_called '^docker'
}

@test "an unknown DEV_BACKEND: one line, exit 2" {
  DEV_BACKEND=podman run dev true
  [ "$status" -eq 2 ]
  [ "${#lines[@]}" -eq 1 ]
}

@test "the exit code is the command's" {
  run dev bash -c 'exit 5'
  [ "$status" -eq 5 ]
  run -127 dev no-such-command
}

@test "arguments survive: spaces, quotes, globs, empty ones" {
  run --separate-stderr dev bash -c 'printf "<%s>" "$@"' - 'a b' '' '*' "it's" '"'
  [ "$output" = "<a b><><*><it's><\">" ]
}

@test "commands run in the repository, with the environment first on PATH" {
  cd /
  run --separate-stderr dev bash -c 'echo "$PWD|$VIRTUAL_ENV|${PATH%%:*}"'
  [ "$output" = "$REPO|$REPO/.venv|$REPO/.venv/bin" ]
}

@test "without a command: a shell in the environment" {
  run --separate-stderr dev <<<'echo "$VIRTUAL_ENV"'
  [ "$output" = "$REPO/.venv" ]
}

@test "the interactive shell starts from the environment, whatever ~/.bashrc does" {
  export HOME=$BATS_TEST_TMPDIR
  echo 'PATH=/elsewhere:$PATH; unset VIRTUAL_ENV' >"$HOME/.bashrc"
  run in_terminal 'bash "$0"' <<<$'echo "<$VIRTUAL_ENV>"\nexit'
  [[ $output == *"<$REPO/.venv>"* ]]
}

@test "a signal reaches the command itself" {
  dev true
  start "$REAL_PYTHON" -c 'import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))
print("up", flush=True)
time.sleep(20)' >"$BATS_TEST_TMPDIR/out" &
  until grep -q up "$BATS_TEST_TMPDIR/out"; do sleep 0.05; done
  kill -TERM $!
  local status=0
  wait $! || status=$?
  [ "$status" -eq 42 ]
}

@test "a repository that cannot be written to: one line, exit 2" {
  mkdir "$REPO/.venv.lock" # root may write anywhere, but not over a folder
  DEV_BACKEND=native run --separate-stderr dev true
  [ "$status" -eq 2 ]
  [ "${#stderr_lines[@]}" -eq 2 ]
  [[ ${stderr_lines[1]} == "dev.sh: cannot write to $REPO, where .venv belongs; "* ]]
  not_called '^pip'
}

@test "the second run installs nothing" {
  dev true
  [ "$(calls '^pip')" -gt 0 ]
  : >"$LOG"
  run dev true
  not_called '^pip'
  not_called 'venv'
}

@test "without a GPU: the CPU constraints" {
  dev true
  called '--constraint constraints.txt --constraint constraints-numpy.txt --constraint constraints-cpu.txt --requirement requirements.txt$'
  called '--no-deps --no-build-isolation --editable \.$'
}

@test "without a GPU: torch alone comes from PyTorch's index, if that answers" {
  [ "$(uname)" = Linux ] || skip "elsewhere the default index has the CPU build"
  dev true
  not_called 'download.pytorch.org'
  rm -r "$REPO/.venv"
  FAKE_INDEX=0 dev true
  called 'https://download.pytorch.org/whl/cpu --no-deps --constraint constraints-cpu.txt torch$'
}

@test "PyTorch's index is asked again only for another torch" {
  [ "$(uname)" = Linux ] || skip "elsewhere the default index has the CPU build"
  export FAKE_INDEX=0
  echo torch==2.13.0 >"$REPO/constraints-cpu.txt"
  dev true
  called 'download.pytorch.org'
  : >"$LOG"
  echo changed >>"$REPO/requirements.txt"
  dev true
  not_called 'download.pytorch.org'
  echo torch==2.14.0 >"$REPO/constraints-cpu.txt"
  dev true
  called 'download.pytorch.org'
}

@test "with a GPU: torch is free" {
  has nvidia-smi
  FAKE_INDEX=0 dev true
  called '--constraint constraints.txt --constraint constraints-numpy.txt --requirement requirements.txt$'
  not_called 'constraints-cpu'
}

@test "the dev tools come when the command needs them, and stay" {
  dev true
  not_called 'requirements-dev.txt'
  dev pytest --version || [ $? -eq 127 ]
  called '--requirement requirements-dev.txt$'
  : >"$LOG"
  dev true
  dev bash -c 'echo pytest -x'
  not_called '^pip'
}

@test "which commands need the dev tools" {
  for command in 'python -m pytest' '.venv/bin/ruff check' 'bash -c make;true' 'lint-imports'; do
    rm -rf "$REPO/.venv"
    : >"$LOG"
    # shellcheck disable=SC2086 # several words
    dev bash -c true $command
    called 'requirements-dev.txt'
  done
  for command in 'tests/pytest.ini' 'make-believe' 'train.py --out remake'; do
    rm -rf "$REPO/.venv"
    : >"$LOG"
    # shellcheck disable=SC2086
    dev bash -c true $command
    not_called 'requirements-dev.txt'
  done
}

@test "changed requirements or constraints are installed into the same environment" {
  for file in requirements requirements-dev constraints constraints-cpu; do
    dev true
    : >"$LOG"
    echo changed >>"$REPO/$file.txt"
    dev true
    called '--requirement requirements.txt$'
    not_called '-m venv'
  done
}

@test "a deleted environment is made again" {
  dev true
  rm -r "$REPO/.venv"
  : >"$LOG"
  dev true
  called '-m venv'
  called '--requirement requirements.txt$'
}

@test "a moved repository gets a new environment" {
  dev true
  mv "$REPO" "$REPO moved"
  REPO="$REPO moved"
  : >"$LOG"
  dev true
  called '-m venv'
}

@test "an environment without its Python is made again" {
  dev true
  rm "$REPO/.venv/bin/python"
  : >"$LOG"
  dev true
  called '-m venv'
}

@test "killed in the middle of an install: the next run starts over" {
  FAKE_PIP_SECONDS=0.5 start true &
  until grep -q '^pip' "$LOG"; do sleep 0.05; done
  kill -9 $!
  wait $! || true
  [ ! -e "$REPO/.venv/.requirements.sha256" ]
  : >"$LOG"
  run dev true
  [ "$status" -eq 0 ]
  called '-m venv --clear'
}

@test "killed while it adds to a good environment: likewise" {
  dev true
  FAKE_PIP_SECONDS=0.5 start pytest &
  until grep -q 'requirements-dev' "$LOG"; do sleep 0.05; done
  kill -9 $!
  wait $! || true
  : >"$LOG"
  dev true
  called '-m venv --clear'
}

@test "two first runs at once: one installs, the other waits and says so" {
  FAKE_PIP_SECONDS=0.3 start bash -c 'echo one' >"$BATS_TEST_TMPDIR/one" 2>&1 &
  FAKE_PIP_SECONDS=0.3 start bash -c 'echo two' >"$BATS_TEST_TMPDIR/two" 2>&1 &
  wait
  grep -q one "$BATS_TEST_TMPDIR/one"
  grep -q two "$BATS_TEST_TMPDIR/two"
  [ "$(calls '--requirement requirements.txt')" -eq 1 ]
  [ "$(calls '-m venv')" -eq 1 ]
  [ "$(cat "$BATS_TEST_TMPDIR/one" "$BATS_TEST_TMPDIR/two" | grep -c 'waiting for it')" -eq 1 ]
}

@test "the lock is not held by the command" {
  start sleep 5 &
  until grep -q editable "$LOG"; do sleep 0.05; done
  echo changed >>"$REPO/requirements.txt"
  run dev true
  kill $!
  [[ $output != *waiting* ]]
}

@test "an install that fails: exit 1, nothing runs, the next run tries again" {
  FAKE_PIP=1 run dev echo ran
  [ "$status" -eq 1 ]
  [[ $output != *ran* ]]
  run dev echo ran
  [ "$status" -eq 0 ]
}

@test "dev tools that cannot be installed leave the environment usable" {
  dev true
  FAKE_PIP=1 run -1 dev pytest
  : >"$LOG"
  dev true
  not_called '^pip'
}

@test "no usable Python: one line of what to do, exit 2, nothing made" {
  FAKE_VERSION_OK=1 run --separate-stderr dev true
  [ "$status" -eq 2 ]
  [ "${#stderr_lines[@]}" -eq 2 ] # with the one that says it runs natively
  [[ ${stderr_lines[1]} == *PYTHON=* ]]
  [ ! -e "$REPO/.venv" ]
}

@test "PYTHON chooses, and nothing else is tried" {
  ln -s "$FAKES/python" "$BATS_TEST_TMPDIR/my python"
  rm "$BIN/python3" "$BIN/python3.12"
  PYTHON="$BATS_TEST_TMPDIR/my python" dev true
  called '-m venv'
  rm -r "$REPO/.venv"
  PYTHON=/no/such/python run dev true
  [ "$status" -eq 2 ]
}

@test "Python without ensurepip: the apt command, exit 2" {
  FAKE_ENSUREPIP=1 run dev true
  [ "$status" -eq 2 ]
  [[ $output == *"sudo apt-get install -y python3."*-venv* ]]
}

@test "Python without ensurepip, but root: installed" {
  has apt-get
  FAKE_ENSUREPIP=1 FAKE_ID=0 dev true
  called '^apt-get .*install.* python3.*-venv$'
  called '-m venv'
}

@test "rendering libraries: installed when root, and only along with the packages" {
  [ "$(uname)" = Linux ] || skip "macOS has them"
  has apt-get
  FAKE_LIBRARIES='' FAKE_ID=0 dev true
  called '^apt-get .*install.* libegl1 libgl1$'
  called '^apt-get .*install.* libosmesa6$'
  : >"$LOG"
  FAKE_LIBRARIES='' FAKE_ID=0 dev true
  not_called '^apt-get'
}

@test "rendering libraries: without the right to install, the command to type, and on it goes" {
  [ "$(uname)" = Linux ] || skip "macOS has them"
  has apt-get sudo
  FAKE_LIBRARIES='libEGL.so.1' run dev echo ran
  [ "$status" -eq 0 ]
  [[ $output != *installing* ]]
  [[ $output == *"sudo apt-get install -y libegl1 libgl1 libosmesa6"*ran ]]
  not_called '^apt-get'
}

@test "rendering libraries: installed with a sudo that needs no password" {
  [ "$(uname)" = Linux ] || skip "macOS has them"
  has apt-get sudo
  FAKE_LIBRARIES='' FAKE_SUDO=0 dev true
  called '^apt-get .*install.* libegl1 libgl1$'
}

@test "rendering libraries: an apt that fails stops nothing" {
  [ "$(uname)" = Linux ] || skip "macOS has them"
  has apt-get
  FAKE_LIBRARIES='' FAKE_ID=0 FAKE_APT=100 run dev echo ran
  [ "$status" -eq 0 ]
  [[ $output == *"sudo apt-get install"*ran ]]
}

@test "rendering libraries: what is there is left alone" {
  [ "$(uname)" = Linux ] || skip "macOS has them"
  has apt-get
  for libraries in 'libOSMesa.so.8' 'libEGL.so.1 libOpenGL.so.0'; do
    rm -rf "$REPO/.venv"
    FAKE_LIBRARIES=$libraries FAKE_ID=0 dev true
  done
  not_called '^apt-get'
}
