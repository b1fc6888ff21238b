#!/usr/bin/env bash
# The same pictures through each way to run the network -> where does the mAP fall?
set -euo pipefail
unset CDPATH
# shellcheck source=test/drivers.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/drivers.sh"

readonly LOST=3  # exit status, and that of ssd_ladder.py
readonly PTH_PATH=./models/iter_183250.pt

usage() {
    cat <<'EOF'
Usage: bash test/ssd_accuracy_ladder.sh --data_path=DIR [OPTION...]

Runs the same pictures through each rung that is there, scores them, compares each rung with the one
above it, and names the first that loses mAP: the checkpoint in PyTorch, ssd_bs1.onnx,
ssd_bs1_uint8.onnx, ssd_bs1_int8.onnx, ssd_bs1.om (with a card and its tool). Exit status 3 if one
loses, 0 if none does.

  --data_path=DIR         holds val2017/ and annotations/, or a folder coco/ that does
  --annotation=FILE       another COCO instances file
  --pictures=DIR          another picture folder
  --images=N              only the first N images that are scored
  --all_images            also images without annotation (COCO's official protocol)
  --models=.              folder of the models
  --pth_path=./models/iter_183250.pt
                          checkpoint; empty: leave PyTorch out
  --output=./ladder       folder for everything written
  --tolerance=0.5         points of mAP that a rung may lose to the one above it
  --goal=MAP              mAP (0 to 1) that the first rung is held against, for faults that all share
  --layers                of a rung that loses, list the layers where its values part
  --device=0              card of the om
  --ais_infer=PATH        ais_infer.py of 2022 (or $AIS_INFER), if ais_bench is missing
  --help                  this text

Example: bash test/ssd_accuracy_ladder.sh --data_path=/data/coco --images=500 --layers
EOF
}

# Finds the models, and what the om is run with.
find_rungs() {
    local rung
    local -a ask=(python3 "$root/ssd_ascend.py" tool)
    model_of=([pytorch]=$pth_path [float32]=$models/ssd_bs1.onnx
        [uint8]=$models/ssd_bs1_uint8.onnx [int8]=$models/ssd_bs1_int8.onnx [om]=$models/ssd_bs1.om)
    for rung in pytorch float32 uint8 int8 om; do
        [[ ! -f ${model_of[$rung]} ]] || rungs+=("$rung")
    done
    if [[ -f ${model_of[om]} ]]; then
        [[ -z $ais_infer ]] || ask+=(--ais_infer "$ais_infer")
        source_toolkit
        if tool=$("${ask[@]}" 2>&1); then
            tool=${tool##*$'\n'}
            tool=${tool% in process}  # what ais_bench thinks of file names does not matter here
        else
            unset 'rungs[-1]'
            missing=(--missing "om=${tool##*error: }")
        fi
    fi
    ((${#rungs[@]})) || die 1 "$models: none of ssd_bs1.onnx, ..., ssd_bs1.om can be run, and no checkpoint; see --help"
}

# Makes the pictures' input files in each dtype that a rung takes.
prepare() {
    local rung dtype instances=$data_path/annotations/instances_val2017.json
    local -a first=()
    [[ -z $images ]] || first=(--images "$images" "${all_images[@]}")
    for rung in "${rungs[@]}"; do
        dtype_of[$rung]=$(python3 "$root/ssd_infer.py" --model "${model_of[$rung]}" --print_dtype) ||
            exit
    done
    stage annotations python3 "$root/prepare-json.py" --keep-keys "${first[@]}" \
        "${annotation:-$instances}" "${data[3]}"
    for dtype in float32 uint8; do
        [[ " ${dtype_of[*]} " == *" $dtype "* ]] || continue
        stage "preprocess, $dtype" python3 "$root/ssd_preprocess.py" "${data[@]}" \
            --bin-output "${inputs_of[$dtype]}" --dtype "$dtype" \
            --reserve-outputs 2  # those of two rungs lie there at a time
    done
}

# Runs the pictures through a rung, and scores what comes out.
run_rung() {  # RUNG
    local rung=$1 model=${model_of[$1]} inputs=${inputs_of[${dtype_of[$1]}]} text
    local -a device_option=()
    if [[ $rung == om && $tool != ais_bench ]]; then
        mkdir -p -- "$output/$rung"  # the tool of 2022 wants it there
        stage "$rung" python3 "$tool" --output "$output/$rung" --outfmt BIN --model "$model" \
            --batchsize 1 --device "$device" --input "$inputs" >&2
        text=${model//\\/\\\\} text=${text//\"/\\\"}  # as JSON has them
        printf '{"engine": "%s", "provider": "card %s", "model": "%s"}\n' "${tool##*/}" \
            "$device" "$text" >"$output/${rung}_summary.json"
    else
        [[ $rung != om ]] || device_option=(--device "$device")
        stage "$rung" python3 "$root/ssd_infer.py" --model "$model" --input "$inputs" \
            --output "$output" --output_dirname "$rung" "${device_option[@]}" >&2
    fi
    stage "$rung, scoring" python3 "$root/ssd_postprocess.py" "${data[@]}" \
        --bin-input "$output/$rung" --output "$output/${rung}_result.json" \
        --detections "$output/${rung}_detections.json" >&2
}

main() {
    local data_path='' annotation='' images='' models=. pth_path=$PTH_PATH
    local output=./ladder tolerance=0.5 goal='' layers=no device=0 ais_infer=${AIS_INFER:-}
    local tool='' above='' rung status=0
    local -a data pictures=() all_images=() rungs=() missing=() against=()
    local -A model_of inputs_of dtype_of
    while (($#)); do
        case $1 in
            --data_path=*) data_path=${1#*=} ;;
            --annotation=*) annotation=${1#*=} ;;
            --pictures=*) pictures=(--images "${1#*=}") ;;
            --images=*) images=${1#*=} ;;
            --all_images) all_images=(--all-images) ;;
            --models=*) models=${1#*=} ;;
            --pth_path=*) pth_path=${1#*=} ;;
            --output=*) output=${1#*=} ;;
            --tolerance=*) tolerance=${1#*=} ;;
            --goal=*) goal=${1#*=} ;;
            --layers) layers=yes ;;
            --device=*) device=${1#*=} ;;
            --ais_infer=*) ais_infer=${1#*=} ;;
            --help) usage && exit 0 ;;
            *) unknown_option "$1" ;;
        esac
        shift
    done
    [[ -n $data_path ]] || die 2 "--data_path=DIR is missing; see --help"
    [[ $images =~ ^([1-9][0-9]*)?$ ]] || die 2 "--images=$images: give a number of images"
    [[ $tolerance =~ ^([0-9]+\.?[0-9]*|\.[0-9]+)$ ]] || die 2 "--tolerance=$tolerance: give points"
    [[ $goal =~ ^(0?\.[0-9]+|[01](\.0*)?)?$ ]] || die 2 "--goal=$goal: give 0 to 1"
    [[ $device =~ ^[0-9]+$ ]] || die 2 "--device=$device: give a number such as 0"
    [[ ! -d $data_path/coco ]] || data_path=$data_path/coco
    [[ -d $data_path ]] || die 1 "$data_path: no such folder; give the one that holds val2017/"
    [[ -f $pth_path || -z $pth_path || $pth_path == "$PTH_PATH" ]] ||
        die 1 "$pth_path: no such checkpoint; correct --pth_path, or leave it empty"
    find_rungs
    make_folder "$output"
    data=(--data "$data_path" --annotation "$output/bbox_only_instances_val2017.json"
        "${pictures[@]}" "${all_images[@]}")
    inputs_of=([float32]=$output/ssd_bin${images:+_$images})
    inputs_of[uint8]=${inputs_of[float32]}_uint8
    for rung in pytorch float32 uint8 int8 om; do  # a former run's
        rm -rf -- "${output:?}/$rung" "$output/$rung"_{summary,result,detections,against}.json
    done
    rm -f -- "$output"/{ladder.json,ladder.md,layers.json}
    prepare
    for rung in "${rungs[@]}"; do
        run_rung "$rung"
        if [[ -n $above ]]; then
            stage "$rung against $above" python3 "$root/ssd_ladder.py" compare "$output" "$above" \
                "$rung" "${data[@]}" >&2
            rm -rf -- "${output:?}/$above"  # 15 GB on val2017
        fi
        above=$rung
    done
    rm -rf -- "${output:?}/$above"
    [[ -z $goal ]] || against=(--goal "$goal")
    printf '[table]\n' >&2
    python3 "$root/ssd_ladder.py" table "$output" --rungs "$(IFS=, && echo "${rungs[*]}")" \
        --tolerance "$tolerance" "${against[@]}" "${missing[@]}" || status=$?
    ((status == 0 || status == LOST)) || die "$status" "stage 'table' failed (see above)"
    if ((status == LOST)) && [[ $layers == yes ]]; then
        stage layers python3 "$root/ssd_ladder.py" layers "$output" "${data[@]}"
    fi
    exit "$status"
}

main "$@"
