#!/usr/bin/env bash
# The engine under AddressSanitizer and UndefinedBehaviorSanitizer: built in build/sanitize, a copy, so that what is
# compiled in the checkout stays as it is. What is found ends the run, and stands in its last lines.
# Arguments are the names of the parts to run (live, units, simulation, engines; all without), or else go to pytest in
# place of those below; ENGINES_TIMES (0.1) is the part of the cases of tests/engines;
# PYTHON is the interpreter, with everything that the tests need.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath --no-symlinks "${PYTHON:-.venv/bin/python}")
folder=build/sanitize
flags='-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all'

missing() {
    printf 'sanitize: %s (Debian, Ubuntu: apt-get install gcc libc6-dev python3-dev)\n' "$1" >&2
    exit 1
}
[[ -x $python ]] || { printf 'sanitize: %s is no interpreter: run make sanitize, or set PYTHON\n' "$python" >&2; exit 1; }
command -v gcc >/dev/null || missing 'gcc is missing'
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[[ -f $include/Python.h ]] || missing "the headers of Python are missing: no $include/Python.h"
preload=()
for library in libasan.so libubsan.so; do
    path=$(gcc -print-file-name="$library")
    [[ $path == */* ]] || missing "gcc has no $library"
    preload+=("$path")
done

# What was compiled there before is kept: a second run compiles only what changed.
mkdir -p "$folder"
for name in proxy tests; do
    find "$folder/$name" -type f ! -name '*.so' -delete 2>/dev/null || true
    find "$name" -type f ! -name '*.so' ! -name '*.c' ! -name '*.pyc' ! -path '*/node_modules/*' -print0 |
        tar --create --null --files-from - | tar --extract --directory "$folder"
done
cp -p setup.py pyproject.toml README.md LICENSE "$folder"
cd "$folder"
echo 'Compiling the engine with sanitizers ...'
CC=gcc SLOTGATE_BUILD=require SLOTGATE_CFLAGS=$flags "$python" setup.py --quiet build_ext --inplace

# detect_leaks: Python itself ends with much that it never gives back; what the engine keeps, its tests look at.
# Not --capture=fd: what a sanitizer says before it ends the process would be lost with it.
sanitized() {
    env LD_PRELOAD="${preload[*]}" PYTHONMALLOC=malloc PYTHONPATH="$PWD" ENGINES_TIMES="${ENGINES_TIMES:-0.1}" \
        ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
        "$python" -m pytest -p no:cacheprovider --capture=sys -o timeout=1200 "$@"
}
part() {
    case $1 in
        live) sanitized tests/live -m smoke ;; # the proxy's own sockets are in the live tests only
        units)
            sanitized tests/unit/engine tests/unit/resp tests/unit/test_metrics.py tests/unit/planning/test_{split,merge}.py \
                tests/unit/sharding/test_slots.py tests/unit/client/test_fast_path.py
            ;;
        simulation) sanitized tests/simulation ;;
        engines) sanitized tests/engines ;;
    esac
}
case ${1-} in
    '') parts=(live units simulation engines) ;;
    live | units | simulation | engines) parts=("$@") ;;
    *)
        sanitized "$@"
        exit
        ;;
esac
for name in "${parts[@]}"; do
    part "$name"
done
