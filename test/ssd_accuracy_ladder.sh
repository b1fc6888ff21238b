#!/usr/bin/env bash
# The same images through each way to run the network -> where does the mAP fall?
set -euo pipefail
unset CDPATH
# shellcheck source=test/drivers.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/drivers.sh"

readonly LOST=3  # exit status, and that of ssd_ladder.py

usage() {
    cat <<'END'
Usage: bash test/ssd_accuracy_ladder.sh --data_path=DIR [OPTION...]

Runs the same images through each rung that is there, scores them, compares each rung with the one
above it, and names each that loses mAP: the checkpoint in PyTorch, ssd_bs1.onnx,
ssd_bs1_uint8.onnx, ssd_bs1_int8.onnx, ssd_bs1.om (with a card and its tool). Exit status 3 if one
loses, 0 if none does. A run that was interrupted goes on where it stopped, and what is there of the
same model and images is kept.

  --data_path=DIR         holds val2017/ and annotations/, or a folder coco/ that does
  --annotation=FILE       another COCO instances file
  --images=DIR            another image folder
  --limit=N               only the first N images that are scored
  --all_images            of COCO's images also those without annotation (its official protocol)
  --models=.              folder of the models
  --pth_path=./models/iter_183250.pt
                          checkpoint; empty: leave PyTorch out
  --output=./ladder       folder for everything written
  --tolerance=0.5         points of mAP that a rung may lose to the one above it
  --goal=MAP              mAP (0 to 1) that the first rung is held against, for faults that all share
  --layers                of the first rung that loses, list the layers where its values part
  --device=0              card of the om; npu:0: every rung on it, by torch_npu and
                          onnxruntime-cann
  --ais_infer=PATH        ais_infer.py of 2022 (or $AIS_INFER), if ais_bench is missing
  --tool_python=PATH      Python with ais_bench and aclruntime (default: the first found)
  --help                  this text

Example: bash test/ssd_accuracy_ladder.sh --data_path=/data/coco --limit=500 --layers
END
}

# Runs the images through one rung, scores them, and compares the rung with the one above it.
climb() {  # RUNG DTYPE MODEL ABOVE
    stage "inference, $1" "${infer[@]}" --model "$3" --input "$output/ssd_bin_$2" \
        --output_dirname "$1" >&2
    stage "scoring, $1" python3 "$root/ssd_postprocess.py" "${data[@]}" --bin-input "$output/$1" \
        --output "$output/$1_result.json" --detections "$output/$1_detections.json" >&2
    [[ -z $4 ]] || stage "$1 against $4" "${ladder[@]}" compare "$output" "$4" "$1" "${data[@]}" >&2
}

main() {
    local plan count rung dtype model above='' status=0
    local -a words ladder infer data rungs dtypes
    opt=([data_path]='' [annotation]='' [images]='' [limit]='' [all_images]=no [models]=.
        [pth_path]=./models/iter_183250.pt [output]=./ladder [tolerance]='' [goal]='' [layers]=no
        [device]='' [ais_infer]='' [tool_python]='')
    parse_options "all_images layers" "$@"
    source_toolkit
    readonly output=${opt[output]}
    ladder=(python3 "$root/ssd_ladder.py")
    give data_path annotation images limit all_images models device ais_infer tool_python tolerance goal
    # held from the plan on; a folder that was made for it goes again if that is refused
    [[ -d $output ]] || trap 'rmdir -- "$output" 2>/dev/null || true' EXIT
    open_output "$output"
    ask "${ladder[@]}" plan "$output" "${words[@]}" "--pth_path=${opt[pth_path]}"
    plan=$answer
    mapfile -t rungs <<<"$plan"
    mapfile -t dtypes < <(cut -f 2 <<<"$plan" | sort -u)
    count=$((2 + ${#dtypes[@]} + 3 * ${#rungs[@]}))  # the first rung's comparison is the table
    [[ ${opt[layers]} == no ]] || count=$((count + 1))
    count_stages "$count"

    reduce_annotations "$output/bbox_only_instances_val2017.json" >&2
    for dtype in "${dtypes[@]}"; do
        stage "images, $dtype" python3 "$root/ssd_preprocess.py" "${data[@]}" --dtype "$dtype" \
            --bin-output "$output/ssd_bin_$dtype" --reserve-outputs 2 >&2  # two rungs' at a time
    done
    give device ais_infer tool_python
    infer=(python3 "$root/ssd_infer.py" "${words[@]}" --force --output "$output")
    while IFS=$'\t' read -r rung dtype model; do
        climb "$rung" "$dtype" "$model" "$above"
        above=$rung
    done <<<"$plan"
    begin "table"
    run "${ladder[@]}" table "$output" || status=$?
    ((status == 0 || status == LOST)) || fail "$status"
    [[ ${opt[layers]} == no ]] || stage "layers" "${ladder[@]}" layers "$output" "${data[@]}"
    stage "page" python3 "$root/ssd_report.py" "$output" --ladder >&2
    exit "$status"
}

main "$@"
