#!/usr/bin/env bash
# Sets up, then runs every check: shellcheck, ruff, the sample, pytest on several Pythons.
set -euo pipefail
unset CDPATH
# shellcheck source=test/drivers.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/drivers.sh"

usage() {
    cat <<'EOF'
Usage: bash test/run_tests.sh [PYTEST-ARGUMENT...]

Installs requirements-dev.txt, then runs shellcheck, ruff, the sample and pytest; the tests that
need no torch also on the oldest and the newest Python that the machine has.

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

# Runs the tests that need no torch on another Python, in an environment of its own.
test_on() {  # MINOR PYTHON
    local venv=$root/.venv-3.$1
    [[ -x $venv/bin/python3 ]] || stage "venv 3.$1" "$2" -m venv "$venv"
    stage "install 3.$1" "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check \
        -r "$root/requirements-infer.txt" onnx pytest -c "$root/constraints.txt"
    stage "pytest 3.$1" "$venv/bin/python3" -m pytest --rootdir="$root" -c "$root/pyproject.toml" \
        -m "not slow" "${torch_free[@]/#/$root/test/}"
}

main() {
    [[ ${1:-} != --help ]] || { usage && exit 0; }
    local scratch minor python
    local -a torch_free=(test_prepare_json.py
        test_ssd_{analysis,boxes,coco,compare,curves,detect,draw,files,gallery,ladder,page,plots}.py
        test_ssd_{postprocess,preprocess,report,score,table}.py)
    use_environment "$root/requirements-dev.txt"
    stage shellcheck shellcheck --external-sources --source-path="$root" "$root"/test/*.sh "$root/.ci/run"
    stage ruff python3 -m ruff check "$root"
    stage format python3 -m ruff format --check "$root"
    scratch=$(mktemp -d)
    readonly scratch
    # shellcheck disable=SC2064  # the path is known now
    trap "rm -rf -- '$scratch'" EXIT
    stage sample bash "$root/test/ssd_sample.sh" --output="$scratch/sample"
    while read -r minor python <&3; do
        test_on "$minor" "$python"
    done 3< <(other_pythons)
    stage pytest python3 -m pytest --rootdir="$root" -c "$root/pyproject.toml" "$@" "$root/test"
}

main "$@"
