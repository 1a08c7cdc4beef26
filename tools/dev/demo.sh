# demo.sh MODELS [question]: answers with a small model, fetched on the first run.
set -euo pipefail
source tools/dev/smollm2.sh
question=${2:-What is the capital of France?}
checkpoint=$(smollm2 build/release/rhapsode "$1" bfloat16)
say "$question"
exec build/release/rhapsode run -c examples/demo.yaml --set "model_id=$checkpoint" --prompt "$question"
