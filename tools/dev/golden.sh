# golden.sh VENV [arguments of tools/golden/make_models.py]: makes the golden fixtures anew with the judges.
set -euo pipefail
source tools/dev/setup.sh
venv=$1
shift
wanted=$(sha256sum tools/golden/requirements.txt | cut -d ' ' -f 1)
if [[ $(cat "$venv/installed" 2>/dev/null) != "$wanted" ]]; then
  python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet -r tools/golden/requirements.txt
  echo "$wanted" >"$venv/installed"
fi
"$venv/bin/python" tools/golden/make_models.py "$@"
[[ $# -gt 0 ]] || "$venv/bin/python" tools/golden/generation_cases.py
