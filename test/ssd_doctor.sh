#!/usr/bin/env bash
# What this machine has for the kit, what it lacks, and what to do about it.
set -euo pipefail
unset CDPATH
# shellcheck source=test/drivers.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/drivers.sh"

usage() {
    cat <<'EOF'
Usage: bash test/ssd_doctor.sh [OPTION...]

One line a fact, with ok, warning or problem, and what to do. Exit status 1 if the default run
cannot work. CANN's environment is sourced as the other drivers do. Writes nothing.

  --data_path=DIR   holds val2017/ and annotations/, or a folder coco/ that does: check it, and
                    whether the disk has room for a run over it
  --pth_path=FILE   checkpoint to load (default: ./models/iter_183250.pt if it is there)
  --output=./result where a run would write
  --ais_infer=PATH  ais_infer.py of 2022 (or $AIS_INFER), if ais_bench is missing
  --help            this text

Example: bash test/ssd_doctor.sh --data_path=/data/coco
EOF
}

main() {
    local data_path
    local -a command=(python3 "$root/ssd_doctor.py")
    while (($#)); do
        case $1 in
            --data_path=*)
                data_path=${1#*=}
                [[ ! -d $data_path/coco ]] || data_path=$data_path/coco
                command+=(--data "$data_path")
                ;;
            --pth_path=*) command+=(--pth-path "${1#*=}") ;;
            --output=*) command+=(--output "${1#*=}") ;;
            --ais_infer=*) command+=(--ais_infer "${1#*=}") ;;
            --help) usage && exit 0 ;;
            *) unknown_option "$1" ;;
        esac
        shift
    done
    source_toolkit
    exec "${command[@]}"
}

main "$@"
