# peers.sh RHAPSODE VENV FILES [arguments of tools/peers/peers.py]: other engines beside Rhapsode, in a venv of their own.
set -euo pipefail
source tools/dev/setup.sh
rhapsode=$1 venv=$2 files=$3
shift 3

setup_venv "$venv" tools/peers/requirements.txt 'the peers (some GB, once; llama-cpp-python is compiled)'
exec "$venv/bin/python" tools/peers/peers.py --rhapsode "$rhapsode" --files "$files" "$@"
