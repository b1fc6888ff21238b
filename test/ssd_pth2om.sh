#!/usr/bin/env bash
# Checkpoint -> ONNX -> om, for each batch size.
set -euo pipefail
unset CDPATH
# shellcheck source=test/drivers.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/drivers.sh"

usage() {
    cat <<'EOF'
Usage: bash test/ssd_pth2om.sh [OPTION...]

Exports the checkpoint to ssd_bsN.onnx for each batch size and, with Ascend's toolchain, converts
each to ssd_bsN.om. Without one the ONNX files are what the embedded engine runs.

  --batch_sizes=1,16      batch sizes
  --pth_path=./models/iter_183250.pt
                          checkpoint
  --resnet34_model=./models/resnet34-333f7ec4.pth
                          torchvision's ResNet-34; read only if the checkpoint has no trunk
  --output=.              folder for the models
  --engine=auto           auto, ascend (atc must be there) or onnxruntime (ONNX files only)
  --input=float32         uint8: models that normalise by themselves, ssd_bsN_uint8.onnx
  --int8=DIR              also INT8 models, ssd_bsN_int8, calibrated with the pictures of this
                          folder of ssd_preprocess.py (float32; uint8 with --input=uint8)
  --soc_version=auto      chip for atc, such as Ascend310P3; auto asks npu-smi
  --aipp                  om: normalise on the card, uint8 input
  --output_fp16           om: float16 outputs, half the bytes
  --dynamic_batch         om: one model, ssd_dynamic.om, for all batch sizes
  --precision_mode_v2=M   om: atc's precision mode
  --atc_args="..."        om: more flags, passed to atc
  --help                  this text

Example: bash test/ssd_pth2om.sh --batch_sizes=1,16 --pth_path=./models/iter_183250.pt
EOF
}

# Converts one ONNX file.
convert() {  # ONNX BATCH-SIZE
    local -a command=(python3 "$root/ssd_onnx2om.py" --onnx-path "$1" --bs "$2"
        --soc_version "$soc_version" --cache "$cache" "${om_options[@]}")
    stage "om, batch $2" "${command[@]}" --om-path "${1%.onnx}.om"
    [[ -n $int8 ]] || return 0
    stage "calibration, batch $2" python3 "$root/ssd_quantize.py" --onnx-path "$1" \
        --calibration "$int8" --ascend-calibration "${1%.onnx}_calibration" \
        --soc_version "$soc_version"
    stage "om INT8, batch $2" "${command[@]}" --om-path "${1%.onnx}_int8.om" \
        --int8 "${1%.onnx}_calibration/calibration.cfg"
}

# Settles auto, and says why.
choose_engine() {
    [[ $engine != onnxruntime ]] || return 0
    source_toolkit
    if command -v atc >/dev/null; then
        [[ $engine != auto ]] || note "engine ascend: atc is $(command -v atc)"
        engine=ascend
    elif [[ $engine == ascend ]]; then
        die 1 "--engine=ascend: no atc on PATH; install CANN's toolkit and source its set_env.sh"
    elif ((${#om_options[@]})); then
        die 1 "${om_options[0]} is for atc, which is not on PATH; source CANN's set_env.sh"
    else
        note "engine onnxruntime: no atc on PATH, so ONNX files only"
        engine=onnxruntime
    fi
}

main() {
    local batch_sizes=1,16 pth_path=./models/iter_183250.pt output=. engine=auto soc_version=auto
    local resnet34_model=./models/resnet34-333f7ec4.pth input=float32 dynamic_batch=no int8=''
    local batch name suffix='' cache
    local -a batch_list om_options=() export=(python3 "$root/ssd_pth2onnx.py")
    while (($#)); do
        case $1 in
            --batch_sizes=*) batch_sizes=${1#*=} ;;
            --pth_path=*) pth_path=${1#*=} ;;
            --resnet34_model=*) resnet34_model=${1#*=} ;;
            --output=*) output=${1#*=} ;;
            --engine=*) engine=${1#*=} ;;
            --input=*) input=${1#*=} ;;
            --int8=*) int8=${1#*=} ;;
            --soc_version=*) soc_version=${1#*=} ;;
            --aipp | --output_fp16) om_options+=("$1") ;;
            --dynamic_batch) dynamic_batch=yes ;;
            --precision_mode_v2=* | --atc_args=*) om_options+=("$1") ;;
            --help) usage && exit 0 ;;
            *) unknown_option "$1" ;;
        esac
        shift
    done
    read_batch_sizes "$batch_sizes"
    check_choice --engine "$engine" auto ascend onnxruntime
    check_choice --input "$input" float32 uint8
    [[ $dynamic_batch == no ]] || om_options+=("--dynamic_batch=$batch_sizes")
    [[ $engine != onnxruntime || ${#om_options[@]} -eq 0 ]] ||
        die 2 "${om_options[0]} is for atc, not for --engine=onnxruntime"
    [[ $dynamic_batch == no || $batch_sizes == *,* ]] || die 2 "--dynamic_batch: give two sizes"
    [[ -z $int8 || $dynamic_batch == no ]] ||
        die 2 "--int8 and --dynamic_batch exclude each other; leave one out"
    [[ -z $int8 || -d $int8 ]] || die 1 "$int8: no such folder; make it with ssd_preprocess.py"
    choose_engine
    [[ $engine == onnxruntime || $input == float32 ]] ||
        die 2 "--input=uint8 is for the embedded engine; on the card --aipp does it"

    [[ $input == float32 ]] || suffix=_uint8
    export+=(--pth-path "$pth_path" --resnet34-model "$resnet34_model" --input "$input")
    make_folder "$output"
    cache=$(mktemp -d -- "$output/.kernels-XXXXXX")  # compiled kernels, for all batch sizes
    readonly cache
    # shellcheck disable=SC2064  # the path is known now
    trap "rm -rf -- $(printf %q "$cache")" EXIT
    if [[ $dynamic_batch == yes ]]; then
        stage "onnx, dynamic batch" "${export[@]}" --dynamic --onnx-path "$output/ssd_dynamic.onnx"
        convert "$output/ssd_dynamic.onnx" "${batch_list[0]}"
    else
        for batch in "${batch_list[@]}"; do
            name=ssd_bs$batch$suffix
            stage "onnx, batch $batch" "${export[@]}" --bs "$batch" --onnx-path "$output/$name.onnx"
            if [[ $engine == ascend ]]; then
                convert "$output/$name.onnx" "$batch"
            elif [[ -n $int8 ]]; then
                stage "INT8, batch $batch" python3 "$root/ssd_quantize.py" \
                    --onnx-path "$output/$name.onnx" --calibration "$int8" \
                    --output "$output/${name}_int8.onnx"
            fi
        done
    fi
    [[ $engine == ascend ]] ||
        echo "no toolchain used: the ONNX files in $output are what the embedded engine runs"
    echo success
}

main "$@"
