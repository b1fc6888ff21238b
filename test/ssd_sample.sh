#!/usr/bin/env bash
# The newcomer's command: sets up, makes a small sample, and runs everything on it.
set -euo pipefail
unset CDPATH
# shellcheck source=test/drivers.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/drivers.sh"

usage() {
    cat <<'END'
Usage: bash test/ssd_sample.sh [--output=./sample_data] [--batch_sizes=1,16]

Installs requirements.txt into .venv (or into the active environment), draws a miniature COCO, fits
a checkpoint to it, exports it, runs it and prints the table. Nothing is downloaded but packages.

Example: bash test/ssd_sample.sh
END
}

main() {
    local models sizes count
    local -a batch_list
    opt=([output]=./sample_data [batch_sizes]="1,16")
    parse_options "" "$@"
    read_batch_sizes
    count=${#batch_list[@]} models=${opt[output]}/models sizes=--batch_sizes=${opt[batch_sizes]}
    use_environment "$root/requirements.txt"
    count_stages $((5 + 4 * count))  # its own, an export a batch size, and those of the evaluation
    if [[ ! -s $models/sample.pt ]]; then
        stage "sample" python3 "$root/ssd_sample.py" --output "${opt[output]}"
    else
        begin "sample (there already)"
    fi
    run env SSD_STAGES="1 $stages" bash "$root/test/ssd_pth2om.sh" "$sizes" --engine=onnxruntime \
        --pth_path="$models/sample.pt" --output="$models"
    run env SSD_STAGES="$((1 + count)) $stages" bash "$root/test/ssd_eval_acc_perf.sh" "$sizes" \
        --data_path="${opt[output]}" --engine=onnxruntime --models="$models" \
        --output="${opt[output]}/result" --seconds=2
    finish
}

main "$@"
