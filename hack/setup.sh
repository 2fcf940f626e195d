#!/usr/bin/env bash
# Makes .venv from requirements-dev.lock and installs the project into it, editable. Needs python3 and nothing else:
# where uv is not on PATH, pip puts the pinned one of hack/uv.lock into the cache.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cache="${OPS_COMMANDER_CACHE:-$HOME/.cache/ops-commander}"

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Debian and Ubuntu keep venv and pip in packages of their own.
need_venv() {
  python3 -c 'import ensurepip, venv' 2> /dev/null && return
  if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    echo "▸ apt-get install python3-venv" >&2
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y python3-venv; } > /dev/null
  else
    die "python3 has no venv module: install it first, on Debian and Ubuntu by: sudo apt-get install python3-venv"
  fi
}

own_uv() {
  local home
  home="$cache/uv-$(sha256sum hack/uv.lock | cut -c1-12)"
  if [ ! -x "$home/bin/uv" ]; then
    need_venv
    echo "▸ uv into $home" >&2
    rm -rf "$home"
    python3 -m venv "$home.new"
    "$home.new/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r hack/uv.lock
    mv "$home.new" "$home"
  fi
  echo "$home/bin/uv"
}

command -v python3 > /dev/null || die "no python3 on PATH: on Debian and Ubuntu, sudo apt-get install python3 python3-venv"
if uv --version > /dev/null 2>&1; then uv=uv; else uv="$(own_uv)"; fi

# What pip is told of an index holds for uv too.
index="$(python3 -m pip config get global.index-url 2> /dev/null || true)"
[ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"

started=$SECONDS
echo "▸ .venv from requirements-dev.lock"
if ! .venv/bin/python -m pip --version > /dev/null 2>&1; then
  # --seed: hack.cluster fetches wheels by pip
  "$uv" venv --quiet --clear --seed --python '>=3.11' .venv
fi
"$uv" pip sync --quiet --python .venv/bin/python --require-hashes requirements-dev.lock
"$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
ln -sf "$(command -v "$uv")" .venv/bin/uv
touch .venv/ready
echo "✓ .venv ($((SECONDS - started)) s)"
