#!/usr/bin/env bash
# Data set -> table of accuracy and speed per batch size.
set -euo pipefail
unset CDPATH
# shellcheck source=test/drivers.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/drivers.sh"

usage() {
    cat <<'EOF'
Usage: bash test/ssd_eval_acc_perf.sh --data_path=DIR [OPTION...]

Runs ssd_bsN models over a data set, scores them, times them, and prints a table.

  --data_path=DIR         holds val2017/ and annotations/, or a folder coco/ that does
  --batch_sizes=1,16      batch sizes
  --engine=auto           auto or onnxruntime
  --models=.              folder of the models
  --output=./result       folder for everything written
  --loop=auto             runs of the pure-inference timing
  --all_images            score also images without annotation (COCO's official protocol)
  --keep_outputs          keep the outputs of each batch size (15 GB each on val2017)
  --in_process            decode while the model runs; no output files at all
  --threshold=0.23        mAP to reach
  --help                  this text

Example: bash test/ssd_eval_acc_perf.sh --data_path=/data/coco --batch_sizes=1,16
EOF
}

# Scores one batch size and times it.
evaluate() {  # BATCH
    local batch=$1 name=bs$1 model=$models/ssd_bs$1.onnx runs=$loop
    local -a infer=(python3 "$root/ssd_infer.py" --model "$model" --output "$output")
    local -a score=(python3 "$root/ssd_postprocess.py" "${data[@]}" --threshold "$threshold"
        --output "$output/${name}_result.json")
    local detections=$output/${name}_detections.json
    if [[ $in_process == yes ]]; then
        stage "inference, batch $batch" "${infer[@]}" --output_dirname "$name" \
            --input "$inputs" "${data[@]}" --detections "$detections"
        stage "scoring, batch $batch" "${score[@]}" --score-only "$detections"
    else
        stage "inference, batch $batch" "${infer[@]}" --output_dirname "$name" --input "$inputs"
        stage "scoring, batch $batch" "${score[@]}" --detections "$detections" \
            --bin-input "$output/$name"
        [[ $keep_outputs == yes ]] || rm -rf -- "${output:?}/$name"
    fi
    [[ $runs != auto ]] || runs=$((batch < 8 ? 24 / batch : 3))
    stage "timing, batch $batch" "${infer[@]}" --output_dirname "${name}_perf" --loop "$runs"
}

main() {
    local data_path='' batch_sizes=1,16 engine=auto models=. output=./result loop=auto
    local keep_outputs=no in_process=no threshold=0.23 command="${0##*/} $*" batch inputs
    local -a batch_list data facts reserve=()
    local all_images=()
    while (($#)); do
        case $1 in
            --data_path=*) data_path=${1#*=} ;;
            --batch_sizes=*) batch_sizes=${1#*=} ;;
            --engine=*) engine=${1#*=} ;;
            --models=*) models=${1#*=} ;;
            --output=*) output=${1#*=} ;;
            --loop=*) loop=${1#*=} ;;
            --all_images) all_images=(--all-images) ;;
            --keep_outputs) keep_outputs=yes ;;
            --in_process) in_process=yes ;;
            --threshold=*) threshold=${1#*=} ;;
            --help) usage && exit 0 ;;
            *) unknown_option "$1" ;;
        esac
        shift
    done
    [[ -n $data_path ]] || die 2 "--data_path=DIR is missing; see --help"
    read_batch_sizes "$batch_sizes"
    check_choice --engine "$engine" auto onnxruntime
    [[ $loop == auto || $loop =~ ^[1-9][0-9]*$ ]] || die 2 "--loop=$loop: give a number of runs"
    [[ ! -d $data_path/coco ]] || data_path=$data_path/coco
    [[ -d $data_path ]] || die 1 "$data_path: no such folder; give the one that holds val2017/"
    for batch in "${batch_list[@]}"; do
        [[ -f $models/ssd_bs$batch.onnx ]] ||
            die 1 "$models/ssd_bs$batch.onnx: no such model; make it with test/ssd_pth2om.sh"
    done

    local instances=$data_path/annotations/instances_val2017.json
    inputs=$output/ssd_bin
    data=(--data "$data_path" --annotation "$output/bbox_only_instances_val2017.json"
        "${all_images[@]}")
    if [[ $in_process == no ]]; then
        reserve=(--reserve-outputs 1)
        [[ $keep_outputs == no ]] || reserve=(--reserve-outputs "${#batch_list[@]}")
    fi
    stage annotations python3 "$root/prepare-json.py" --keep-keys "$instances" "${data[3]}"
    stage preprocess python3 "$root/ssd_preprocess.py" "${data[@]}" --bin-output "$inputs" \
        "${reserve[@]}"
    for batch in "${batch_list[@]}"; do
        evaluate "$batch"
    done
    facts=(--fact "command=$command")
    stage report python3 "$root/ssd_report.py" "$output" "${data[@]}" "${facts[@]}"
    echo success
}

main "$@"
