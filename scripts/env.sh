# Sourced by the other scripts: where the tools live and which Deno is used.
# Reads NEPHOS_CACHE, XDG_CACHE_HOME, HOME; sets NEPHOS_ROOT, NEPHOS_CACHE, NEPHOS_TOOLS and PATH.
# shellcheck shell=bash

NEPHOS_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ -z "${NEPHOS_CACHE:-}" ]; then
  if [ -n "${XDG_CACHE_HOME:-}" ]; then
    NEPHOS_CACHE=$XDG_CACHE_HOME/nephos
  elif [ -n "${HOME:-}" ]; then
    NEPHOS_CACHE=$HOME/.cache/nephos
  else
    NEPHOS_CACHE=${TMPDIR:-/tmp}/nephos-cache-$(id -u)
  fi
fi
NEPHOS_TOOLS=$NEPHOS_CACHE/tools
DENO_VERSION=2.9.6
export NEPHOS_ROOT NEPHOS_CACHE NEPHOS_TOOLS DENO_VERSION
export DENO_NO_UPDATE_CHECK=1

# Prints the path of a Deno of the right release line, or returns 1.
find_deno() {
  local candidate
  for candidate in "$NEPHOS_TOOLS/bin/deno" "$NEPHOS_TOOLS/node_modules/.bin/deno" "$(command -v deno || true)"; do
    [ -n "$candidate" ] && [ -x "$candidate" ] || continue
    case "$("$candidate" --version 2>/dev/null)" in
      "deno ${DENO_VERSION%.*}."*) echo "$candidate"; return 0 ;;
    esac
  done
  return 1
}

# Puts that Deno first in PATH, or ends the script with a message that says what to do.
use_deno() {
  local deno
  deno=$(find_deno) || { echo "Deno ${DENO_VERSION%.*} is not there: run scripts/setup first" >&2; exit 1; }
  PATH=$(dirname "$deno"):$PATH
  export PATH
}

# First line of a failure, on standard error, and out.
die() {
  echo "$*" >&2
  exit 1
}
