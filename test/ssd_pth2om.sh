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
  --engine=auto           auto, ascend (atc must be there) or onnxruntime
  --soc_version=auto      chip for atc, such as Ascend310P3; auto asks npu-smi
  --help                  this text

Example: bash test/ssd_pth2om.sh --batch_sizes=1,16 --pth_path=./models/iter_183250.pt
EOF
}

main() {
    local batch_sizes=1,16 pth_path=./models/iter_183250.pt output=. engine=auto soc_version=auto
    local resnet34_model=./models/resnet34-333f7ec4.pth batch onnx
    local -a batch_list
    while (($#)); do
        case $1 in
            --batch_sizes=*) batch_sizes=${1#*=} ;;
            --pth_path=*) pth_path=${1#*=} ;;
            --resnet34_model=*) resnet34_model=${1#*=} ;;
            --output=*) output=${1#*=} ;;
            --engine=*) engine=${1#*=} ;;
            --soc_version=*) soc_version=${1#*=} ;;
            --help) usage && exit 0 ;;
            *) unknown_option "$1" ;;
        esac
        shift
    done
    read_batch_sizes "$batch_sizes"
    check_choice --engine "$engine" auto ascend onnxruntime

    for batch in "${batch_list[@]}"; do
        onnx=$output/ssd_bs$batch.onnx
        stage "onnx, batch $batch" python3 "$root/ssd_pth2onnx.py" --bs "$batch" \
            --pth-path "$pth_path" --resnet34-model "$resnet34_model" --onnx-path "$onnx"
    done
    echo "no toolchain: ssd_bsN.onnx in $output are what the embedded engine runs"
    echo success
}

main "$@"
