# shellcheck shell=bash
# What the scripts of this folder share. Everything here runs under bash 3.2 too, which macOS has.

say() { echo "dev.sh: $*" >&2; }

fail() {
  say "$*"
  exit 2
}

# within SECONDS command…: stops a command that takes longer; macOS has no timeout(1).
within() {
  local pid ticks=$(($1 * 50))
  shift
  "$@" &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    ((ticks-- > 0)) || kill -9 "$pid" || break
    sleep 0.02
  done
  wait "$pid" 2>/dev/null
}

has_gpu() { command -v nvidia-smi >/dev/null && within 10 nvidia-smi >/dev/null 2>&1; }

default_image() { if has_gpu; then echo robotics-rl:latest; else echo robotics-rl:mac; fi; }

# pass_on FLAG NAME…: adds "FLAG NAME" to the array `options` for each of these variables, and of
# the proxy's, that is set here. To name one that is not would unset the image's own value.
pass_on() {
  local flag=$1 name
  shift
  for name in "$@" http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    [[ -z ${!name+set} ]] || options+=("$flag" "$name")
  done
}
