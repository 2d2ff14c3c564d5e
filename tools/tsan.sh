#!/usr/bin/env bash
# The scenarios of tests/thread_scenarios.py under ThreadSanitizer: builds the runtime, the binding and the recorder with it
# into build/tsan, and runs Python on them. Python itself and the compiled kernels are not instrumented: tools/tsan.supp.
# Arguments go to thread_scenarios.py. Builds in 15 s and runs for 20 s on two cores. PYTHON is the Python to use.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath -s "${PYTHON:-.venv/bin/python}")
build=build/tsan
cmake -S . -B $build -DCMAKE_BUILD_TYPE=RelWithDebInfo -DSKBUILD=ON -DFLAMBEAU_SANITIZE=thread -DPython_EXECUTABLE="$python" >/dev/null
cmake --build $build --parallel >/dev/null

# A package of links: our Python files and the extensions just built.
package=$PWD/$build/package/flambeau
rm -rf "$build/package"
mkdir -p "$package/runtime/lib"
for path in "$PWD"/frontend/* "$PWD/compiler" "$PWD/dialects"; do ln -s "$path" "$package/"; done
for path in "$PWD"/runtime/*.py "$PWD/runtime/include" "$PWD"/$build/_*.so; do ln -s "$path" "$package/runtime/"; done
ln -s "$PWD"/$build/libflambeau_rt.* "$package/runtime/lib/"

# -S: an editable installation would come first.
site=$("$python" -c 'import sys; print(":".join(p for p in sys.path if p.endswith("site-packages")))')
export PYTHONPATH=$build/package:$site FLAMBEAU_CACHE=${FLAMBEAU_CACHE:-$(mktemp -d)}
export TSAN_OPTIONS="suppressions=$PWD/tools/tsan.supp halt_on_error=0 exitcode=66 second_deadlock_stack=1 ${TSAN_OPTIONS:-}"
LD_PRELOAD=$(gcc -print-file-name=libtsan.so) setarch -R "$python" -S tests/thread_scenarios.py "$@"
