#!/usr/bin/env bash
# The newcomer's command: sets up, makes a small sample, and runs everything on it.
set -euo pipefail
unset CDPATH
# shellcheck source=test/drivers.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/drivers.sh"

usage() {
    cat <<'EOF'
Usage: bash test/ssd_sample.sh [--output=./sample_data] [--batch_sizes=1,16]

Installs requirements.txt into .venv (or into the active environment), draws a miniature COCO, fits
a checkpoint to it, exports it, runs it and prints the table. Nothing is downloaded but packages.

Example: bash test/ssd_sample.sh
EOF
}

main() {
    local output=./sample_data batch_sizes=1,16
    # shellcheck disable=SC2034  # read_batch_sizes fills it, which is all the checking needed
    local -a batch_list
    while (($#)); do
        case $1 in
            --output=*) output=${1#*=} ;;
            --batch_sizes=*) batch_sizes=${1#*=} ;;
            --help) usage && exit 0 ;;
            *) unknown_option "$1" ;;
        esac
        shift
    done
    read_batch_sizes "$batch_sizes"
    use_environment "$root/requirements.txt"
    if [[ ! -f $output/models/sample.pt ]]; then
        stage sample python3 "$root/ssd_sample.py" --output "$output"
    fi
    stage models bash "$root/test/ssd_pth2om.sh" --batch_sizes="$batch_sizes" \
        --pth_path="$output/models/sample.pt" --output="$output/models" --engine=onnxruntime
    bash "$root/test/ssd_eval_acc_perf.sh" --data_path="$output" --batch_sizes="$batch_sizes" \
        --models="$output/models" --output="$output/result" --engine=onnxruntime
}

main "$@"
