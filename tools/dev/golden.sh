# golden.sh VENV [script [arguments]]: makes golden fixtures anew with the judges, in a venv of their own.
# Without a script: the tiny models and the generation knobs. A word that is no script is a family of make_models.py.
set -euo pipefail
source tools/dev/setup.sh
venv=$1
shift

setup_venv "$venv" tools/golden/requirements.txt 'the judges (some GB, once)'

if [[ $# == 0 ]]; then
  "$venv/bin/python" tools/golden/make_models.py
  "$venv/bin/python" tools/golden/generation_cases.py
elif [[ -f tools/golden/$1.py ]]; then
  "$venv/bin/python" "tools/golden/$1.py" "${@:2}"
else
  "$venv/bin/python" tools/golden/make_models.py "$@"
fi
