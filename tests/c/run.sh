#!/usr/bin/env bash
# Builds the C tests in build/c-* and runs them: run.sh [plain|asan|tsan ...], all three unless named.
set -euo pipefail
cd "$(dirname "$0")/../.."

run() { # name, sanitizers
  cmake -S . -B "build/c-$1" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DFLAMBEAU_TESTS=ON -DFLAMBEAU_SANITIZE="$2" >/dev/null
  cmake --build "build/c-$1" --parallel >/dev/null
  echo "== $1"
  ctest --test-dir "build/c-$1" --output-on-failure --no-tests=error
}

[ $# -gt 0 ] || set -- plain asan tsan
for name; do
  case $name in
  plain) run plain "" ;;
  asan) run asan address,undefined ;;
  tsan) run tsan thread ;;
  *) echo "run.sh knows plain, asan and tsan, not $name" >&2 && exit 2 ;;
  esac
done
