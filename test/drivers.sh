# shellcheck shell=bash
# Shared by the drivers, which source it: options, stages, the environment.
#
# A driver that runs other drivers exports SSD_STAGES, "DONE TOTAL": they go on counting from
# there, and leave the last word to it.

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

# Whether the active environment holds modules of CANN.
holds_cann() {
    local name place=${VIRTUAL_ENV:-${CONDA_PREFIX:-/none}}
    for name in te tbe acl acl.so 'aclruntime*'; do
        ! compgen -G "$place/lib/python3*/site-packages/$name" >/dev/null || return 0
    done
    return 1
}

# the active environment, unless it is CANN's, else the one that ssd_sample.sh makes
if holds_cann; then
    cann_environment=${VIRTUAL_ENV:-$CONDA_PREFIX}
    unset VIRTUAL_ENV CONDA_PREFIX
fi
[[ -n ${VIRTUAL_ENV:-}${CONDA_PREFIX:-} || ! -d $root/.venv ]] || PATH=$root/.venv/bin:$PATH
export SSD_DRIVER=$$  # a stage ends when the driver that started it is gone
export ORT_DISABLE_TELEMETRY=${ORT_DISABLE_TELEMETRY:-1}  # ONNX Runtime reports to its maker
declare -A opt  # option -> value, as parse_options reads them
flags=''  # names of the options that take no value
child='' step=''
readonly BELOW=4  # status of ssd_postprocess.py where the mAP is below --fail_below
below=no
trap 'stop INT' INT
trap 'stop TERM' TERM
trap 'stop HUP' HUP

die() {  # STATUS MESSAGE
    printf '%s: error: %s\n' "${0##*/}" "$2" >&2
    exit "$1"
}

note() {  # MESSAGE
    printf '%s: %s\n' "${0##*/}" "$1" >&2
}

# Reads the command line into the associative array `opt`, which holds each option's default.
# Options may have - or _ in their names; those named in FLAGS take no value and become "yes".
parse_options() {  # FLAGS ARGUMENT...
    local name
    flags=" $1 "
    shift
    while (($#)); do
        name=${1%%=*} name=${name#--} name=${name//-/_}
        [[ $1 != --help && $1 != -h ]] || { usage && exit 0; }
        [[ $1 == --* && $name =~ ^[a-z0-9_]+$ && -n ${opt[$name]+known} ]] ||
            die 2 "unknown option $1; see --help"
        if [[ $flags == *" $name "* ]]; then
            [[ $1 != *=* ]] || die 2 "--$name takes no value; see --help"
            opt[$name]=yes
        elif [[ $1 == *=* ]]; then
            opt[$name]=${1#*=}
        else
            [[ $# -gt 1 && $2 != --* ]] || die 2 "--$name needs a value; see --help"
            opt[$name]=$2
            shift
        fi
        shift
    done
}

# Fills the array `words` with those of the named options that were given or have a default.
give() {  # NAME...
    local name
    words=()
    for name in "$@"; do
        if [[ $flags != *" $name "* ]]; then
            [[ -z ${opt[$name]} ]] || words+=("--$name=${opt[$name]}")
        elif [[ ${opt[$name]} == yes ]]; then
            words+=("--$name")
        fi
    done
}

# Fills the array `batch_list` from --batch_sizes.
read_batch_sizes() {
    [[ ${opt[batch_sizes]} =~ ^[1-9][0-9]*(,[1-9][0-9]*)*$ ]] ||
        die 2 "--batch_sizes=${opt[batch_sizes]}: give sizes such as 1,16"
    # shellcheck disable=SC2034  # the caller's
    IFS=, read -r -a batch_list <<<"${opt[batch_sizes]}"
}

make_folder() {  # FOLDER
    mkdir -p -- "$1" 2>/dev/null || die 1 "$1: cannot be made or is no folder; give another --output"
}

# Locks a file or folder that is open, where the disk has locks; fails if another process holds it.
try_lock() {  # FLOCK-ARGUMENT...
    flock "$@" || (($? != 1))  # the status of a lock that is held
}

# Holds a folder until this driver ends, its stages with it; ends the run if another one holds it.
# It waits a moment, as the kernel frees the memory of a killed run before its locks; a run that
# ends meanwhile may remove the folder that it made.
lock_folder() {  # FOLDER
    make_folder "$1"
    exec {lock}<"$1"
    if command -v flock >/dev/null; then
        try_lock -w 2 "$lock" || die 1 "$1: another run is using it; wait for that, or give another --output"
        if [[ ! $1 -ef /dev/fd/$lock ]]; then
            exec {lock}<&-
            lock_folder "$1"
            return
        fi
        SSD_LOCK=$(cd -- "$1" && pwd -P)
        export SSD_LOCK
    fi
}

# Makes and holds a folder of results, closed to others, as newer ais_bench wants it.
open_output() {  # FOLDER
    (umask g-w,o-rwx && make_folder "$1")
    lock_folder "$1"
}

# Reduces the annotations to those that are scored, as a stage, and fills the array `data` with the
# options of the stages that read the data set.
reduce_annotations() {  # OUTPUT-FILE
    local -a words
    give limit all_images
    stage "annotations" python3 "$root/prepare-json.py" --keep-keys "${words[@]}" \
        "${opt[annotation]:-${opt[data_path]}}" "$1"
    # an annotation file alone means the data set that it lies in
    [[ -n ${opt[data_path]} ]] || opt[data_path]=$(dirname -- "${opt[annotation]}")/..
    give data_path images all_images
    # shellcheck disable=SC2034  # the caller's
    data=("${words[@]}" --annotation "$1")
}

# Settles --engine=fastest: measures which engine and precision of this CPU runs the models fastest.
find_fastest() {
    give models variant
    ask python3 "$root/ssd_doctor.py" --fastest "--batchsize=${batch_list[0]}" "${words[@]}"
    IFS=: read -r 'opt[engine]' 'opt[precision]' 'opt[variant]' <<<"$answer"
    note "fastest here: --engine=${opt[engine]} --precision=${opt[precision]} --variant=${opt[variant]}"
}

# Says how many stages will run, for their numbers.
count_stages() {  # COUNT
    stages_done=0 stages=$1
    [[ -z ${SSD_STAGES:-} ]] || read -r stages_done stages <<<"$SSD_STAGES"
}

# Prints the number and the name of the stage that begins.
begin() {  # NAME
    step=$1
    stages_done=$((stages_done + 1))
    printf '[%s/%s] %s\n' "$stages_done" "$stages" "$1" >&2
}

# Runs a command in the background, as bash heeds signals only between commands and in
# wait; returns its status.
run() {  # COMMAND...
    local status=0
    # what bash runs in the background ignores Ctrl-C, unless a subshell takes that back
    if declare -F "$1" >/dev/null; then
        (trap - INT && "$@") &
    else
        (trap - INT && exec "$@") &
    fi
    child=$!
    wait "$child" || status=$?
    child=''
    return "$status"
}

# Runs an external command as `run` does, and puts the lines that it prints into `answer`.
ask() {  # COMMAND...
    local status=0 pipe line
    answer=''
    exec {pipe}< <(trap - INT && exec "$@")
    child=$!
    while IFS= read -r -u "$pipe" line; do
        answer+=${answer:+$'\n'}$line
    done
    wait "$child" || status=$?
    child=''
    exec {pipe}<&-
    ((status < 128)) || fail "$status"
    return "$status"
}

# Runs an external command as a stage, and ends the run with its status if it fails. A mAP that
# is too low ends it later, in `finish`.
stage() {  # NAME COMMAND...
    local status=0
    begin "$1"
    run "${@:2}" || status=$?
    ((status == 0 || status == BELOW)) || fail "$status"
    ((status == 0)) || below=yes
}

# Ends the run with the status of what failed in the stage that runs.
fail() {  # STATUS
    local kept="what was done is kept"
    case $1 in
        129 | 130 | 143) die "$1" "interrupted in '$step'; the same command goes on from there" ;;
        137) die 137 "stage '$step' was killed by signal 9: out of memory? $kept" ;;
        141) die 141 "stage '$step' ended, as the reader of its output did; $kept" ;;
        13[1-9] | 14? | 15?) die "$1" "stage '$step' was killed by signal $(($1 - 128)); $kept" ;;
        *) die "$1" "stage '$step' failed (see above); what was done before it is kept" ;;
    esac
}

# Ends the running stage, then the driver with the status of the signal.
stop() {  # SIGNAL
    trap '' INT TERM HUP
    [[ -z $child ]] || kill -TERM "$child" 2>/dev/null || true
    [[ -z $child ]] || wait "$child" 2>/dev/null || true
    die $((128 + $(kill -l "$1"))) "stopped by SIG$1; the same command goes on from there"
}

# Prints the last word of a run, unless it is a part of another or a mAP was too low.
finish() {
    [[ $below == no ]] || exit "$BELOW"
    [[ -n ${SSD_STAGES:-} ]] || echo success
}

# Lets no other run set up packages until this one has; pip holds it too, which goes on if the
# run is killed.
hold_packages() {
    exec {packages}<"$root"
    ! command -v flock >/dev/null || try_lock -n "$packages" ||
        die 1 "$root: another run is setting up its packages; wait for that"
}

# Puts the project's environment first on PATH: the active one, or .venv, which is made if missing
# and made again if its making was interrupted.
use_environment() {  # REQUIREMENTS-FILE
    local stamp
    [[ -z ${cann_environment:-} ]] ||
        note "$cann_environment holds CANN's modules, which the kit's packages would break: using $root/.venv"
    if [[ -z ${VIRTUAL_ENV:-} && -z ${CONDA_PREFIX:-} ]]; then
        if ! "$root/.venv/bin/python3" -m pip --version >/dev/null 2>&1; then
            hold_packages
            note "making $root/.venv"
            rm -rf -- "$root/.venv"
            run python3 -m venv "$root/.venv" || die 1 "cannot make $root/.venv; install python3-venv"
        fi
        export VIRTUAL_ENV=$root/.venv PATH=$root/.venv/bin:$PATH
    fi
    stamp=${VIRTUAL_ENV:-$CONDA_PREFIX}/.ssd-$(cat -- "$root/constraints.txt" "$root"/requirements*.txt "$1" | cksum | cut -d ' ' -f 1)
    if [[ ! -e $stamp ]]; then
        [[ -n ${packages:-} ]] || hold_packages
        note "installing $1 (several GB the first time, torch being most of it)"
        run python3 -m pip install --quiet --disable-pip-version-check -r "$1" \
            -c "$root/constraints.txt" || die $? "cannot install $1 (see above)"
        : >"$stamp"
        exec {packages}<&-
    fi
}

# Sources CANN's environment if nobody did and it lies at a usual place.
source_toolkit() {
    local folder file given=${ASCEND_HOME_PATH:-/nowhere} home=${HOME:-/nowhere}/Ascend
    [[ -z ${ASCEND_TOOLKIT_HOME:-} ]] || return 0
    # the variable may name .../latest, below the file; CANN 8.5 and newer go to Ascend/cann;
    # hosts for inference alone have nnrt or nnae
    for folder in "$given" "${given%/*}" {/usr/local/Ascend,"$home"}/{ascend-toolkit,cann} "$home" \
        {/usr/local/Ascend,"$home"}/{nnrt,nnae}; do
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
