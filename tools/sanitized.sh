# Sourced by asan.sh and tsan.sh: builds the runtime, the binding and the recorder with sanitizers, and sets PYTHONPATH to a package
# of links to our Python files and what was built. In: `build`, `sanitizers`, and PYTHON. Out: `python`, PYTHONPATH, FLAMBEAU_CACHE.
python=$(realpath -s "${PYTHON:-.venv/bin/python}")
cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DSKBUILD=ON -DFLAMBEAU_SANITIZE="$sanitizers" -DPython_EXECUTABLE="$python" >/dev/null
cmake --build "$build" --parallel >/dev/null

package=$PWD/$build/package/flambeau
rm -rf "$build/package"
mkdir -p "$package/runtime/lib"
for path in "$PWD"/frontend/* "$PWD/compiler" "$PWD/dialects"; do ln -s "$path" "$package/"; done
for path in "$PWD"/runtime/*.py "$PWD/runtime/include" "$PWD/$build"/_*.so; do ln -s "$path" "$package/runtime/"; done
ln -s "$PWD/$build"/libflambeau_rt.* "$package/runtime/lib/"

# For -S, which scripts run Python with: an editable installation would come first.
site=$("$python" -c 'import sys; print(":".join(p for p in sys.path if p.endswith("site-packages")))')
export PYTHONPATH=$PWD/$build/package:$site FLAMBEAU_CACHE=${FLAMBEAU_CACHE:-$(mktemp -d)}
