#!/usr/bin/env bash
# Sets up, then runs every check: shellcheck, ruff, the sample, pytest.
set -euo pipefail
unset CDPATH
# shellcheck source=test/drivers.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/drivers.sh"

usage() {
    cat <<'EOF'
Usage: bash test/run_tests.sh [PYTEST-ARGUMENT...]

Installs requirements-dev.txt, then runs shellcheck, ruff, the sample and pytest.

Example: bash test/run_tests.sh -k boxes
EOF
}

main() {
    [[ ${1:-} != --help ]] || { usage && exit 0; }
    local scratch
    use_environment "$root/requirements-dev.txt"
    stage shellcheck shellcheck --external-sources --source-path="$root" "$root"/test/*.sh "$root/.ci/run"
    stage ruff python3 -m ruff check "$root"
    stage format python3 -m ruff format --check "$root"
    scratch=$(mktemp -d)
    readonly scratch
    # shellcheck disable=SC2064  # the path is known now
    trap "rm -rf -- '$scratch'" EXIT
    stage sample bash "$root/test/ssd_sample.sh" --output="$scratch/sample"
    stage pytest python3 -m pytest --rootdir="$root" -c "$root/pyproject.toml" "$@" "$root/test"
}

main "$@"
