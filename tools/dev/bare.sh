# bare.sh ROOT [proc]: the README's two commands in a bare Debian 12 made by debootstrap at ROOT, from a clean clone of this
# commit; says wall and processor time of each. With the word proc, /proc is mounted in it; without, the harder case, it is not.
# How this machine reaches its mirrors (apt's settings, authorities of its own) is given to the root; nothing else is.
set -euo pipefail
source tools/dev/setup.sh
root=$1 proc=${2:-}
[[ $(id -u) == 0 ]] || fail 'chroot needs root'
[[ ! -e $root ]] || fail "$root exists; a bare root starts empty"
install_packages debootstrap

say "debootstrap bookworm $root"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' 'Created-By: Packages' | head -n 1)
mkdir -p "$root"
debootstrap --variant=minbase bookworm "$root" ${mirror:+"$mirror"} >"$root.log" 2>&1 || { tail -n 5 "$root.log" >&2 && fail 'debootstrap failed'; }
apt-config dump Acquire >"$root/etc/apt/apt.conf.d/99machine"
[[ ! -d /usr/local/share/ca-certificates ]] || cp -rL /usr/local/share/ca-certificates "$root/usr/local/share/"
git clone --quiet --no-local . "$root/srv/rhapsode"
if [[ $proc == proc ]]; then
  mount -t proc proc "$root/proc"
  trap 'umount "$root/proc"' EXIT
fi

inside() { # command
  local status=0
  say "in the bare root: $1"
  TIMEFORMAT="== $1: %R s wall, %U s user, %S s system"
  time chroot "$root" /usr/bin/env -i HOME=/srv PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
    bash -c "cd /srv/rhapsode && $1" || status=$?
  ((status == 0)) || fail "in the bare root, $1 ended with $status"
}

inside './dev demo "What is the capital of France?"' | tee "$root.answer"
grep -q Paris "$root.answer" || fail 'the answer does not name Paris'
inside './dev test'
