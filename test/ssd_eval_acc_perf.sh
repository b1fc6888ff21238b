#!/usr/bin/env bash
# Data set -> table of accuracy and speed per batch size.
set -euo pipefail
unset CDPATH
# shellcheck source=test/drivers.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/drivers.sh"

usage() {
    cat <<'END'
Usage: bash test/ssd_eval_acc_perf.sh --data_path=DIR [OPTION...]

Scores and times ssd_bsN models on a data set. A run that was interrupted goes on where it stopped.

  --data_path=DIR         holds val2017/ and annotations/, or a folder coco/ that does
  --annotation=FILE, --images=DIR   another COCO instances file, another image folder
  --limit=N               only the first N images that are scored
  --all_images            of COCO's images score also those without annotation (its official protocol)
  --batch_sizes=1,16      batch sizes
  --models=.              folder of the models, or one model file for all batch sizes
  --variant=NAME          run ssd_bsN_NAME.onnx (such as uint8) instead of ssd_bsN.onnx
  --output=./result       folder for everything written
  --engine=auto           auto, ascend, onnxruntime, openvino, torch, or fastest of this CPU; auto is a
                          card with its tool if they are there, else onnxruntime, or by the model file
  --precision=f32         openvino: f32, bf16, or int8 (runs ssd_bsN_int8.onnx)
  --device=0              ascend: cards, such as 0,1,2,3; onnxruntime, torch: cpu, cuda:0, npu:0
  --ais_infer=PATH        ascend: ais_infer.py of 2022 (or $AIS_INFER), if ais_bench is missing
  --tool_python=PATH      ascend: Python with ais_bench and aclruntime (default: the first found)
  --in_process            from images to detections in one stage; no input and output files
  --keep_outputs          keep the outputs of each batch size (15 GB each on val2017)
  --seconds=10            how long each batch size is timed, once it has warmed up
  --loop=N                time N runs instead
  --latency_limit=MS      Max is the fastest batch size that answers within MS milliseconds
  --force                 replace the results of another model, data set or route in --output
  --fast                  time all batch sizes, score only batch 1 and the fastest
  --goal=0.23, --fail_below=MAP     mAP to reach, 0 to 1 (also --threshold); exit 4 if it is less
  --workers=N             processes for images and decoding (default: all CPUs)

Example: bash test/ssd_eval_acc_perf.sh --data_path=/data/coco --batch_sizes=1,16
END
}

# Runs the model over the inputs, and scores what it finds.
score() {  # BATCH
    stage "inference, batch $1" "${infer[@]}" --batchsize "$1" --output_dirname "bs$1" \
        "${data[@]}" "${route[@]}"
    stage "scoring, batch $1" python3 "$root/ssd_postprocess.py" "${data[@]}" "${scoring[@]}" \
        --bin-input "$output/bs$1" --output "$output/bs$1_result.json" \
        --detections "$output/bs$1_detections.json"
}

# Times the model without any input.
time_pure() {  # BATCH
    stage "timing, batch $1" "${infer[@]}" --batchsize "$1" --output_dirname "bs$1_perf" \
        "${timing[@]}"
}

# Times all batch sizes, then scores the fastest and batch 1.
run_fast() {
    local batch
    local -a scored=()
    for batch in "${batch_list[@]}"; do
        time_pure "$batch"
    done
    ask python3 "$root/ssd_report.py" "$output" "${rows[@]}" --print-best
    note "fastest: batch $answer; scoring it and batch 1"
    for batch in "${batch_list[@]}"; do
        [[ $batch != 1 && $batch != "$answer" ]] || scored+=("$batch")
    done
    stages=$((stages_done + 2 * ${#scored[@]} + 1))
    for batch in "${scored[@]}"; do
        score "$batch"
    done
}

main() {
    local batch reserve=1 others=4 command="${0##*/} $*"
    local -a batch_list words infer data route scoring timing rows
    opt=([data_path]='' [annotation]='' [images]='' [limit]='' [all_images]=no [batch_sizes]="1,16"
        [models]=. [variant]='' [output]=./result [engine]='' [precision]='' [device]=''
        [ais_infer]="" [tool_python]='' [in_process]=no [keep_outputs]=no [force]=no [fast]=no
        [seconds]='' [loop]='' [latency_limit]='' [goal]='' [threshold]='' [fail_below]='' [workers]='')
    parse_options "all_images in_process keep_outputs fast force" "$@"
    read_batch_sizes
    source_toolkit
    output=${opt[output]} inputs=${opt[output]}/ssd_bin
    [[ ${opt[engine]} != fastest ]] || find_fastest
    give models variant engine precision device ais_infer tool_python && infer=(python3 "$root/ssd_infer.py" "${words[@]}")
    give in_process workers force && route=("${words[@]}")
    give seconds loop && timing=("${words[@]}")
    give batch_sizes latency_limit && rows=("${words[@]}")
    give goal threshold fail_below workers && scoring=("${words[@]}")
    [[ ${opt[keep_outputs]} == yes ]] || scoring+=(--remove-outputs)
    give data_path annotation images all_images && data=("${words[@]}")
    [[ ${opt[keep_outputs]} == no ]] || reserve=${#batch_list[@]}
    [[ ${opt[in_process]} == no ]] || others=3
    count_stages $((others + 3 * ${#batch_list[@]}))
    [[ ${opt[fast]} == no ]] || count_stages $((others + 4 + ${#batch_list[@]}))  # at most

    begin "check of options, models and annotations"
    ask python3 "$root/ssd_postprocess.py" "${data[@]}" "${scoring[@]}" --check
    ask "${infer[@]}" "${data[@]}" "${route[@]}" --batchsize "${opt[batch_sizes]}" \
        "${timing[@]}" --output "$output" --print_dtype
    open_output "$output"
    reduce_annotations "$output/bbox_only_instances_val2017.json"
    if [[ ${opt[in_process]} == no ]]; then
        give workers && stage "images" python3 "$root/ssd_preprocess.py" "${data[@]}" \
            --bin-output "$inputs" --dtype "$answer" --reserve-outputs "$reserve" "${words[@]}"
        route+=(--input "$inputs")
    fi
    infer+=(--output "$output")
    if [[ ${opt[fast]} == yes ]]; then
        run_fast
    else
        for batch in "${batch_list[@]}"; do
            score "$batch"
            time_pure "$batch"
        done
    fi
    stage "report" python3 "$root/ssd_report.py" "$output" "${data[@]}" \
        "${rows[@]}" --fact "command=$command"
    finish
}

main "$@"
