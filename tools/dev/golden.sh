# golden.sh VENV [script [arguments]]: makes golden fixtures anew with the judges, in a venv of their own.
# Without a script: the tiny models and the generation knobs. A word that is no script is a family of make_models.py.
set -euo pipefail
source tools/dev/setup.sh
venv=$1
shift

wanted=$(sha256sum tools/golden/requirements.txt)
if [[ $(cat "$venv/installed" 2>/dev/null) != "$wanted" ]]; then
  python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
  say "installing the judges in $venv (some GB, once)"
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/python" -m pip --disable-pip-version-check install --quiet -r tools/golden/requirements.txt
  echo "$wanted" >"$venv/installed"
fi

if [[ $# == 0 ]]; then
  "$venv/bin/python" tools/golden/make_models.py
  "$venv/bin/python" tools/golden/generation_cases.py
elif [[ -f tools/golden/$1.py ]]; then
  "$venv/bin/python" "tools/golden/$1.py" "${@:2}"
else
  "$venv/bin/python" tools/golden/make_models.py "$@"
fi
