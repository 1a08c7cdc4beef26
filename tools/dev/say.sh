# How ./dev speaks: to stderr, so that stdout holds results alone. Sourced.

say() { printf '== %s\n' "$*" >&2; }

fail() {
  printf 'dev: %s\n' "$*" >&2
  exit 1
}
