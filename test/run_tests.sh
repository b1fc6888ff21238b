#!/usr/bin/env bash
# Sets up, then runs every check: shellcheck, ruff, the sample, pytest on several Pythons.
set -euo pipefail
unset CDPATH
# shellcheck source=test/drivers.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/drivers.sh"

usage() {
    cat <<'EOF'
Usage: bash test/run_tests.sh [PYTEST-ARGUMENT...]

Installs requirements-dev.txt, then runs shellcheck, ruff, the sample and, on all processors,
pytest; the unit tests, which need no torch, also on the oldest and the newest Python there is.

Example: bash test/run_tests.sh -k boxes
EOF
}

# Prints the oldest and the newest Python of this machine that the kit supports, but for ours.
other_pythons() {
    local minor python ours found=()
    ours=$(python3 -c 'import sys; print(sys.version_info.minor)')
    for minor in 10 11 12 13; do
        for python in "python3.$minor" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python3; do
            if "$python" -c 'import ensurepip, sqlite3' 2>/dev/null; then
                found+=("$minor $python")
                break
            fi
        done
    done
    ((${#found[@]})) || return 0
    printf '%s\n' "${found[0]}" "${found[-1]}" | sort -u | grep -v "^$ours " || true
}

# Makes the environment of another Python, without torch, if it is missing or half made.
prepare() {  # MINOR PYTHON
    local venv=$root/.venv-3.$1
    if ! "$venv/bin/python3" -m pip --version >/dev/null 2>&1; then
        rm -rf -- "$venv"
        run "$2" -m venv "$venv"
    fi
    run "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check \
        -r "$root/requirements-infer.txt" onnx pytest pytest-xdist -c "$root/constraints.txt"
}

# Runs pytest on all processors. Each worker has one, so that they do not wait for each other, and
# there is one more, as tests wait for what they start.
run_pytest() {  # PYTHON ARGUMENT...
    exec env -u SSD_DRIVER OMP_NUM_THREADS=1 "$1" -m pytest --rootdir="$root" -c "$root/pyproject.toml" \
        --numprocesses="$(($(nproc) + 1))" --dist=worksteal "${@:2}"
}

main() {
    [[ ${1:-} != --help ]] || { usage && exit 0; }
    local scratch minor python
    local -A pythons=()
    unset PYTHONDONTWRITEBYTECODE  # else each of the thousands of processes compiles the kit again
    use_environment "$root/requirements-dev.txt"
    while read -r minor python; do
        pythons[$minor]=$python
    done < <(other_pythons)
    count_stages $((5 + 2 * ${#pythons[@]}))
    stage "shellcheck" shellcheck --external-sources --source-path="$root" "$root"/test/*.sh "$root/.ci/run"
    stage "ruff" python3 -m ruff check "$root"
    stage "format" python3 -m ruff format --check "$root"
    for minor in "${!pythons[@]}"; do
        stage "environment for Python 3.$minor" prepare "$minor" "${pythons[$minor]}"
    done
    scratch=$(mktemp -d)
    readonly scratch
    # shellcheck disable=SC2064  # the path is known now
    trap "rm -rf -- '$scratch'" EXIT
    stage "sample" bash "$root/test/ssd_sample.sh" --output="$scratch/sample"
    export SSD_SAMPLE=$scratch/sample  # for the tests, which need none of their own
    stage "pytest" run_pytest python3 "$@" "$root/test"
    for minor in "${!pythons[@]}"; do
        stage "pytest, Python 3.$minor" run_pytest "$root/.venv-3.$minor/bin/python3" \
            -m "not slow" --ignore-glob="*_standin*.py" "$root/test/unit"
    done
}

main "$@"
