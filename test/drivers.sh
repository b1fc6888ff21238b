# shellcheck shell=bash
# Shared by the drivers, which source it: messages, stages, options.

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# the active environment, else the one that ssd_sample.sh makes
[[ -n ${VIRTUAL_ENV:-}${CONDA_PREFIX:-} || ! -d $root/.venv ]] || PATH=$root/.venv/bin:$PATH

die() {  # STATUS MESSAGE
    printf '%s: error: %s\n' "${0##*/}" "$2" >&2
    exit "$1"
}

note() {  # MESSAGE
    printf '%s: %s\n' "${0##*/}" "$1" >&2
}

# Runs an external command, and ends the run with its status if it fails.
stage() {  # NAME COMMAND...
    local name=$1 status=0
    shift
    printf '[%s]\n' "$name" >&2
    "$@" || status=$?
    ((status != 130)) || die 130 "interrupted in '$name'; the same command goes on from there"
    ((status == 0)) ||
        die "$status" "stage '$name' failed (see above); what was done before it is kept"
}

make_folder() {  # FOLDER
    mkdir -p -- "$1" 2>/dev/null || die 1 "$1: cannot be made or is no folder; give another --output"
}

unknown_option() {  # OPTION
    die 2 "unknown option $1; see --help"
}

# Fills the array batch_list from a list such as 1,16.
read_batch_sizes() {  # LIST
    [[ $1 =~ ^[1-9][0-9]*(,[1-9][0-9]*)*$ ]] || die 2 "--batch_sizes=$1: give sizes such as 1,16"
    # shellcheck disable=SC2034  # the caller's
    IFS=, read -r -a batch_list <<<"$1"
}

check_choice() {  # OPTION VALUE CHOICE...
    local option=$1 value=$2 choice
    shift 2
    for choice in "$@"; do
        [[ $value != "$choice" ]] || return 0
    done
    die 2 "$option=$value: give one of $*"
}

# Puts the project's environment first on PATH: the active one, or .venv, which is made if missing.
use_environment() {  # REQUIREMENTS-FILE
    local constraints=$root/constraints.txt stamp
    if [[ -z ${VIRTUAL_ENV:-} && -z ${CONDA_PREFIX:-} ]]; then
        if [[ ! -x $root/.venv/bin/python3 ]]; then
            note "making $root/.venv"
            python3 -m venv "$root/.venv" || die 1 "cannot make $root/.venv; install python3-venv"
        fi
        export VIRTUAL_ENV=$root/.venv PATH=$root/.venv/bin:$PATH
    fi
    stamp=${VIRTUAL_ENV:-$CONDA_PREFIX}/.ssd-$(cat -- "$root/constraints.txt" "$root"/requirements*.txt "$1" | cksum | cut -d ' ' -f 1)
    if [[ ! -e $stamp ]]; then
        note "installing $1 (several GB the first time, torch being most of it)"
        stage install python3 -m pip install --quiet --disable-pip-version-check \
            -r "$1" -c "$constraints"
        : >"$stamp"
    fi
}

# Sources CANN's environment if nobody did and it lies at a usual place.
source_toolkit() {
    local folder file told=${ASCEND_HOME_PATH:-/nowhere} home=${HOME:-/nowhere}/Ascend
    [[ -z ${ASCEND_TOOLKIT_HOME:-} ]] || return 0
    # told may be .../latest, one below the file; CANN 8.5 and newer go to Ascend/cann
    for folder in "$told" "${told%/*}" /usr/local/Ascend/{ascend-toolkit,cann} \
        "$home"/{ascend-toolkit,cann} "$home"; do
        file=$folder/set_env.sh
        if [[ -r $file ]]; then
            note "sourcing $file"
            set +eu  # the vendor's file reads variables that may not be set, and has tests that fail
            # shellcheck disable=SC1090
            source "$file"
            set -eu
            return 0
        fi
    done
}
