#!/usr/bin/env bash
# Tests of the binding and the recorder under AddressSanitizer and UndefinedBehaviorSanitizer: builds the runtime, the binding and
# the recorder with them into build/asan, and runs pytest on them, on the files named or on a choice of their own. Python itself
# and the compiled kernels are not instrumented; what Python leaves at its end is no leak. PYTHON is the Python to use. Takes two
# minutes of processor time.
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/asan sanitizers=address,undefined
. tools/sanitized.sh
export ASAN_OPTIONS="detect_leaks=0 ${ASAN_OPTIONS:-}" UBSAN_OPTIONS="print_stacktrace=1 ${UBSAN_OPTIONS:-}" PYTHONMALLOC=malloc
tests=("$@")
((${#tests[@]})) || tests=(tests/test_c_bodies.py tests/test_small_ops.py tests/test_stand_ins.py tests/test_walk.py tests/test_calls_without_python.py
  tests/test_view_chains.py tests/test_forgotten_types.py tests/test_recorder_*.py tests/test_runtime_binding.py
  -k "not memory_is_flat") # what is freed stays a while with AddressSanitizer
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" "$python" -S -m pytest -q -p no:cacheprovider "${tests[@]}"
