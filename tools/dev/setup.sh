# What each command needs, installed on Debian 12 where it is missing. Sourced by ./dev.
# It goes through apt, pip and cargo as the machine has them set up.

source tools/dev/say.sh

BUILD_PACKAGES=(g++ cmake ninja-build pkg-config ccache ca-certificates git python3
  libyaml-dev nlohmann-json3-dev libcli11-dev libfmt-dev libgtest-dev libedit-dev
  libcurl4-openssl-dev libssl-dev libsimde-dev)
CHECK_PACKAGES=(python3 git clang-format-14)
CLANG_PACKAGES=(clang-14 libclang-rt-14-dev llvm-14)
EMULATOR_PACKAGES=(bochs bochsbios bochs-term busybox-static isolinux syslinux-common xorriso cpio binutils)
MINIMUM_CARGO=1.85 # the oldest that can choose crates by its own age

as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "needs root or sudo for: $*"
  fi
}

missing_packages() { # names… -> those that are not installed
  local installed
  installed=" $(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p' | tr '\n' ' ') || true"
  local name
  for name in "$@"; do
    [[ $installed == *" $name "* ]] || printf '%s ' "$name"
  done
}

install_packages() { # names…
  local missing
  command -v dpkg-query >/dev/null || fail "not a Debian machine; install these by hand: $*"
  read -r -a missing <<<"$(missing_packages "$@")" # no <(…): a bare root may lack /proc and with it /dev/fd
  ((${#missing[@]})) || return 0
  say "installing: ${missing[*]}"
  as_root apt-get -qq -o Acquire::Retries=3 update
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 \
    install --no-install-recommends "${missing[@]}" >/dev/null
}

at_least() { # version minimum
  [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]
}

CARGO_OPTION= # for cmake, where the cargo that it would find is too old

setup_cargo() {
  local version
  version=$(cargo --version 2>/dev/null | cut -d ' ' -f 2) || true
  if [[ -n $version ]] && at_least "$version" "$MINIMUM_CARGO"; then
    return 0
  fi
  [[ -z $version ]] || say "cargo $version is older than $MINIMUM_CARGO"
  install_packages cargo-web rustc-web
  PATH=/usr/bin:$PATH # before an older one of the user
  hash -r
  CARGO_OPTION=-DCARGO=/usr/bin/cargo
}

setup_build() {
  # The newest crates that this compiler can build, not the newest of all.
  # One build of the crate serves every preset.
  export RHAPSODE_CARGO_TARGET_DIR=${RHAPSODE_CARGO_TARGET_DIR:-$PWD/build/text-ffi}
  export CARGO_RESOLVER_INCOMPATIBLE_RUST_VERSIONS=fallback CARGO_NET_RETRY=5
  install_packages "${BUILD_PACKAGES[@]}"
  setup_cargo
}

setup_check() { install_packages "${CHECK_PACKAGES[@]}"; }

setup_clang() { install_packages "${CLANG_PACKAGES[@]}"; }

setup_emulator() { # folder for the guest's kernel -> GUEST_KERNEL; it is unpacked there, not installed
  install_packages "${EMULATOR_PACKAGES[@]}"
  mkdir -p "$1"
  if ! compgen -G "$1/boot/vmlinuz-*" >/dev/null; then
    local package
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
    say "fetching a kernel for the guest: $package"
    (cd "$1" && apt-get -qq download "$package" && dpkg-deb -x "$package"_*.deb . && rm -- "$package"_*.deb)
  fi
  GUEST_KERNEL=$(compgen -G "$1/boot/vmlinuz-*" | head -n 1)
}

setup_pip() { # any pip that works is good enough
  python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip
}

setup_venv() { # directory requirements what: a venv of exactly these pins, made anew when they change
  local venv=$1 requirements=$2 what=$3 wanted
  wanted=$(sha256sum "$requirements")
  [[ $(cat "$venv/installed" 2>/dev/null) != "$wanted" ]] || return 0
  python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
  say "installing $what in $venv"
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/python" -m pip --disable-pip-version-check install --quiet -r "$requirements"
  echo "$wanted" >"$venv/installed"
}
