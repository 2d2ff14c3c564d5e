#!/usr/bin/env bash
# Runs the tests of chance with their full counts, once for a release; docs/testing.md keeps the results.
set -euo pipefail
cd "$(dirname "$0")/.."
export FLAMBEAU_TESTS=full
mapfile -t tests < <(grep -lE '\brounds\(' tests/test_*.py)
exec "${PYTHON:-.venv/bin/python}" -m pytest --durations=0 --durations-min=5 "$@" "${tests[@]}"
