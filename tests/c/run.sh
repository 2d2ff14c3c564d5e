#!/usr/bin/env bash
# Builds the C tests plain, under ASan+UBSan and under TSan in build/c-*, and runs them. Arguments go to ctest.
set -euo pipefail
cd "$(dirname "$0")/../.."

run() { # name, sanitizers, further arguments of ctest
  local name=$1 sanitize=$2
  shift 2
  cmake -S . -B "build/c-$name" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DFLAMBEAU_TESTS=ON -DFLAMBEAU_SANITIZE="$sanitize" >/dev/null
  cmake --build "build/c-$name" --parallel >/dev/null
  echo "== $name"
  ctest --test-dir "build/c-$name" --output-on-failure --no-tests=error "$@"
}

run plain "" "$@"
run asan address,undefined "$@"
run tsan thread "$@"
