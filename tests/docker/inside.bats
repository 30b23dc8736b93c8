#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031 # single quotes are for the inner shell, tests are subshells
# venv.sh as it runs inside the container.

load helpers

@test "an image without torch: a plain environment with the CPU constraints" {
  inside true
  called '-m venv --clear .venv-docker$'
  called '--constraint constraints.txt --constraint constraints-numpy.txt --constraint constraints-cpu.txt --requirement requirements.txt$'
  [ ! -e "$REPO/.venv" ]
}

# image_has PACKAGE VERSION: as an installed package, in Python's own words.
image_has() {
  export FAKE_SITE=$BATS_TEST_TMPDIR/site
  mkdir -p "$FAKE_SITE/$1-$2.dist-info"
  printf 'Metadata-Version: 2.1\nName: %s\nVersion: %s\n' "$@" >"$FAKE_SITE/$1-$2.dist-info/METADATA"
}

@test "an image with torch keeps it, and the numpy it was built for" {
  image_has torch 2.10.0a0+nv25.12
  image_has numpy 1.26.4
  inside true
  called '-m venv --clear --system-site-packages .venv-docker$'
  called '--constraint constraints.txt --constraint .venv-docker/image-packages.txt --requirement'
  not_called 'constraints-cpu'
  grep -q '^torch==2.10.0a0+nv25.12$' "$REPO/.venv-docker/image-packages.txt"
  grep -q '^numpy==1.26.4$' "$REPO/.venv-docker/image-packages.txt"
}

@test "the image's own pip constraints do not meet ours" {
  PIP_CONSTRAINT=/etc/pip/constraint.txt inside true
  called '^pip \[PIP_CONSTRAINT=\] '
  not_called 'PIP_CONSTRAINT=/etc'
}

@test "another image means another environment" {
  inside true
  : >"$LOG"
  image_has torch 2.11.0
  inside true
  called '-m venv --clear'
}

@test "nothing of the system is installed" {
  has apt-get
  FAKE_LIBRARIES='' FAKE_ID=0 inside true
  not_called '^apt-get'
}

@test "dev.sh called in its own container stays in it" {
  DEV_BACKEND=inside run --separate-stderr dev bash -c 'echo "$VIRTUAL_ENV"; exit 5'
  [ "$status" -eq 5 ]
  [ "$output" = "$REPO/.venv-docker" ]
  not_called '^docker'
}

@test "dev.sh called in a shell of dev.sh uses the same environment" {
  inside bash -c 'DEV_BACKEND=inside bash docker/dev.sh bash -c true pytest'
  [ "$(calls '-m venv')" -eq 1 ]
  called '--requirement requirements-dev.txt$'
}
