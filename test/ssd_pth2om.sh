#!/usr/bin/env bash
# Checkpoint -> ONNX -> om, for each batch size.
set -euo pipefail
unset CDPATH
# shellcheck source=test/drivers.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/drivers.sh"

usage() {
    cat <<'END'
Usage: bash test/ssd_pth2om.sh [OPTION...]

Exports the checkpoint to ssd_bsN.onnx for each batch size and, with Ascend's toolchain, converts
each to ssd_bsN.om. Without the toolchain, ONNX Runtime runs the ONNX files.

  --batch_sizes=1,16      batch sizes
  --pth_path=./models/iter_183250.pt
                          checkpoint
  --resnet34_model=./models/resnet34-333f7ec4.pth
                          torchvision's ResNet-34; read only if the checkpoint has no trunk
  --output=.              folder for the models
  --engine=auto           auto, ascend (atc must be there) or onnxruntime (ONNX files only)
  --input=float32         uint8: models that normalize by themselves, ssd_bsN_uint8.onnx
  --int8=DIR              also INT8 models, ssd_bsN_int8, calibrated with the images of this
                          folder of ssd_preprocess.py (float32; uint8 with --input=uint8)
  --soc_version=auto      chip for atc, such as Ascend310P3; auto asks npu-smi
  --aipp                  om: normalize on the card, uint8 input
  --output_fp16           om: float16 outputs, half the bytes
  --dynamic_batch         om: one model, ssd_dynamic.om, for all batch sizes
  --precision_mode_v2=M   om: atc's precision mode
  --atc_args="..."        om: more flags, passed to atc
  --atc_python=PATH       om: the Python that atc loads
  --help                  this text

Example: bash test/ssd_pth2om.sh --batch_sizes=1,16 --pth_path=./models/iter_183250.pt
END
}

# Settles --engine=auto, and refuses what the engine cannot do, before any work.
choose_engine() {
    local -a words
    give aipp output_fp16 dynamic_batch precision_mode_v2 atc_args atc_python
    [[ ${opt[engine]} == onnxruntime ]] || source_toolkit
    case ${opt[engine]}:$(command -v atc || true) in
        auto:?*) opt[engine]=ascend && note "engine ascend: atc is $(command -v atc)" ;;
        auto:) opt[engine]=onnxruntime && note "engine onnxruntime: no atc on PATH, so ONNX files only" ;;
        ascend:?* | onnxruntime:*) ;;
        ascend:) die 1 "--engine=ascend: no atc on PATH; install CANN's toolkit and source its set_env.sh" ;;
        *) die 2 "--engine=${opt[engine]}: give one of auto ascend onnxruntime" ;;
    esac
    if [[ ${opt[engine]} == onnxruntime ]]; then
        ((${#words[@]} == 0)) || die 1 "${words[0]} is for atc, which is not used; source CANN's set_env.sh"
    elif [[ ${opt[input]} != float32 ]]; then
        die 2 "--input=${opt[input]} is for ONNX Runtime; on the card --aipp does it"
    fi
    [[ ${opt[dynamic_batch]} == no || ${opt[batch_sizes]} == *,* ]] || die 2 "--dynamic_batch: give two sizes"
    [[ -z ${opt[int8]} || ${opt[dynamic_batch]} == no ]] ||
        die 2 "--int8 and --dynamic_batch exclude each other; leave one out"
    [[ -z ${opt[int8]} || -d ${opt[int8]} ]] ||
        die 1 "${opt[int8]}: no such folder; make it with ssd_preprocess.py"
}

# Converts one ONNX file to om and, with --int8, to an INT8 om too.
convert() {  # ONNX BATCH-SIZE
    local -a words
    give soc_version aipp output_fp16 precision_mode_v2 atc_args atc_python
    local -a command=(python3 "$root/ssd_onnx2om.py" --onnx-path "$1" --bs "$2" --cache "$cache" "${words[@]}")
    [[ ${opt[dynamic_batch]} == no ]] || command+=("--dynamic_batch=${opt[batch_sizes]}")
    stage "om, batch $2" "${command[@]}" --om-path "${1%.onnx}.om"
    [[ -n ${opt[int8]} ]] || return 0
    give soc_version
    stage "calibration, batch $2" python3 "$root/ssd_quantize.py" --onnx-path "$1" "${words[@]}" \
        --calibration "${opt[int8]}" --ascend-calibration "${1%.onnx}_calibration"
    stage "om INT8, batch $2" "${command[@]}" --om-path "${1%.onnx}_int8.om" \
        --int8 "${1%.onnx}_calibration/calibration.cfg"
}

main() {
    local -a batch_list words
    local batch model suffix='' each=1
    opt=([batch_sizes]="1,16" [pth_path]=./models/iter_183250.pt [output]=. [engine]=auto
        [resnet34_model]=./models/resnet34-333f7ec4.pth [input]=float32 [int8]='' [soc_version]=auto
        [aipp]=no [output_fp16]=no [dynamic_batch]=no [precision_mode_v2]='' [atc_args]='' [atc_python]='')
    parse_options "aipp output_fp16 dynamic_batch" "$@"
    read_batch_sizes
    choose_engine
    [[ ${opt[input]} == float32 ]] || suffix=_${opt[input]}
    lock_folder "${opt[output]}"
    readonly cache=${opt[output]}/.kernels  # compiled by atc, for all batch sizes
    trap 'rm -rf -- "$cache"' EXIT
    give pth_path resnet34_model input
    local -a export=(python3 "$root/ssd_pth2onnx.py" "${words[@]}")
    [[ ${opt[engine]} == onnxruntime ]] || each=$((each + 1))
    [[ -z ${opt[int8]} ]] || each=$((2 * each))
    if [[ ${opt[dynamic_batch]} == yes ]]; then
        count_stages 2
        model=${opt[output]}/ssd_dynamic.onnx
        stage "export, dynamic batch" "${export[@]}" --dynamic --onnx-path "$model"
        convert "$model" "${batch_list[0]}"
        batch_list=()
    else
        count_stages $((each * ${#batch_list[@]}))
    fi
    for batch in "${batch_list[@]}"; do
        model=${opt[output]}/ssd_bs$batch$suffix.onnx
        stage "export, batch $batch" "${export[@]}" --bs "$batch" --onnx-path "$model"
        if [[ ${opt[engine]} == ascend ]]; then
            convert "$model" "$batch"
        elif [[ -n ${opt[int8]} ]]; then
            stage "INT8, batch $batch" python3 "$root/ssd_quantize.py" --onnx-path "$model" \
                --calibration "${opt[int8]}" --output "${model%.onnx}_int8.onnx"
        fi
    done
    [[ ${opt[engine]} == ascend ]] || echo "no toolchain used: ONNX Runtime runs the ONNX files in ${opt[output]}"
    finish
}

main "$@"
