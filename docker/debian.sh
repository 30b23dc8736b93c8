# shellcheck shell=bash
# Packages of the operating system that a native run may lack. Sourced by venv.sh.

# Installs packages where that needs no password.
apt_install() {
  local apt=()
  command -v apt-get >/dev/null || return 1
  if [[ $(id -u) != 0 ]]; then
    sudo -n true 2>/dev/null || return 1
    apt=(sudo -n)
  fi
  apt+=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y
    -o Acquire::Retries=0 -o Acquire::http::Timeout=15 -o DPkg::Lock::Timeout=60)
  say "installing $* with apt-get …"
  {
    "${apt[@]}" install --no-install-recommends "$@" ||
      { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "$@"; }
  } >/dev/null 2>&1
}

has_rendering() {
  local libraries
  libraries=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null) || return 1
  case $libraries in
  *libOSMesa.so*) ;;
  *libEGL.so.1*) [[ $libraries == *libGL.so.1* || $libraries == *libOpenGL.so.0* ]] ;;
  *) return 1 ;;
  esac
}

# Pictures and videos need these; training does not, so their absence stops nothing.
install_rendering() {
  [[ $(uname) == Linux ]] && ! has_rendering || return 0
  if apt_install libegl1 libgl1; then
    apt_install libosmesa6 || true # the fallback; new releases of Mesa no longer have it
  else
    say "no rendering library found; for pictures: sudo apt-get install -y libegl1 libgl1 libosmesa6"
  fi
}

# install_venv_module PYTHON: Debian and Ubuntu ship Python without it.
install_venv_module() {
  local package
  package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
  apt_install "$package" ||
    fail "this Python cannot make virtual environments; type: sudo apt-get install -y $package"
}
