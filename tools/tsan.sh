#!/usr/bin/env bash
# The scenarios of tests/thread_scenarios.py under ThreadSanitizer: builds the runtime, the binding and the recorder with it
# into build/tsan, and runs Python on them. Python itself and the compiled kernels are not instrumented: tools/tsan.supp.
# Arguments go to thread_scenarios.py. Builds in 15 s and runs for 20 s on two cores. PYTHON is the Python to use.
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/tsan sanitizers=thread
. tools/sanitized.sh
export TSAN_OPTIONS="suppressions=$PWD/tools/tsan.supp halt_on_error=0 exitcode=66 second_deadlock_stack=1 ${TSAN_OPTIONS:-}"
LD_PRELOAD=$(gcc -print-file-name=libtsan.so) setarch -R "$python" -S tests/thread_scenarios.py "$@"
