# fuzz.sh BUILD TARGET|all RUNS: runs fuzzers over their corpus, prints one line each, fails where one does.
set -euo pipefail
build=$1 target=$2 runs=$3

if [[ $target == all ]]; then
  programs=("$build"/tests/*_fuzz)
else
  programs=("$build/tests/${target}_fuzz")
fi

passed=0 failed=0
printf '%-28s %10s %9s %8s %8s  %s\n' target runs seconds cover rss_mb result
for program in "${programs[@]}"; do
  name=$(basename "$program")
  log=$build/$name.log
  found=$build/corpus/$name
  seeds=tests/fuzz/corpus/${name%_fuzz}
  mkdir -p "$found" "$build/crashes"
  [[ -d $seeds ]] || seeds= # a target without seeds starts from nothing
  # What a GGUF vocabulary implies grows with its length times the root of that: longer inputs cost a second each.
  longest=65536
  [[ $name != gguf_fuzz ]] || longest=16384
  start=$(date +%s.%N)
  result=ok
  "$program" -runs="$runs" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 -max_len="$longest" -print_final_stats=1 \
    -artifact_prefix="$build/crashes/$name-" "$found" $seeds >"$log" 2>&1 || result="FAILED, see $log"
  if [[ $result == ok ]]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  cover=$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1 | cut -d ' ' -f 2 || true)
  rss=$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")
  seconds=$(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }')
  printf '%-28s %10s %9s %8s %8s  %s\n' "$name" "${executed:--}" "$seconds" "${cover:--}" "${rss:--}" "$result"
  [[ $result == ok ]] || tail -n 25 "$log" >&2
done
echo "fuzz: $passed targets held, $failed broke"
((failed == 0))
