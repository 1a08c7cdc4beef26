# run_tests.sh BUILD LABELS: runs ctest, then says what was run where. The closing counts come from ctest's own record.
set -euo pipefail
build=$1 labels=$2
record=$build/test-record.xml
rm -f "$record"

status=0
ctest --test-dir "$build" -L "$labels" -j "$(nproc)" --output-on-failure --test-output-size-passed 20000 --no-tests=error \
  --output-junit "$(realpath "$build")/test-record.xml" || status=$?

cpu=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1) || true # a bare root may lack /proc
echo "CPU: ${cpu:-unknown (no /proc/cpuinfo)}, $(nproc) cores"
[[ ! -x $build/tests/kernel_sets ]] || "$build/tests/kernel_sets"
[[ -f $record ]] || exit "$status"
python3 tools/dev/count_tests.py "$record" || status=$?
exit "$status"
