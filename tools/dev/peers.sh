# peers.sh RHAPSODE VENV FILES [arguments of tools/peers/peers.py]: other engines beside Rhapsode, in a venv of their own.
set -euo pipefail
source tools/dev/setup.sh
rhapsode=$1 venv=$2 files=$3
shift 3

wanted=$(sha256sum tools/peers/requirements.txt)
if [[ $(cat "$venv/installed" 2>/dev/null) != "$wanted" ]]; then
  python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
  say "installing the peers in $venv (some GB, once; llama-cpp-python is compiled)"
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/python" -m pip --disable-pip-version-check install --quiet -r tools/peers/requirements.txt
  echo "$wanted" >"$venv/installed"
fi
exec "$venv/bin/python" tools/peers/peers.py --rhapsode "$rhapsode" --files "$files" "$@"
