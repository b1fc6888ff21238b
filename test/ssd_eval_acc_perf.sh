#!/usr/bin/env bash
# Data set -> table of accuracy and speed per batch size.
set -euo pipefail
unset CDPATH
# shellcheck source=test/drivers.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/drivers.sh"

usage() {
    cat <<'EOF'
Usage: bash test/ssd_eval_acc_perf.sh --data_path=DIR [OPTION...]

Runs ssd_bsN models over a data set, scores them, times them, and prints a table. A run that was
interrupted goes on where it stopped.

  --data_path=DIR         holds val2017/ and annotations/, or a folder coco/ that does
  --annotation=FILE       another COCO instances file
  --images=DIR            another picture folder
  --batch_sizes=1,16      batch sizes
  --models=.              folder of the models, or one model file for all batch sizes
  --variant=NAME          run ssd_bsN_NAME.onnx (such as uint8) instead of ssd_bsN.onnx
  --output=./result       folder for everything written
  --engine=auto           auto, ascend, onnxruntime, openvino or torch; auto takes ascend if an
                          inference tool and a card are there, else onnxruntime; with a model file
                          it takes what runs such a file
  --precision=f32         openvino: f32, bf16, or int8 (runs ssd_bsN_int8.onnx)
  --loop=auto             runs of the pure-inference timing
  --fast                  time all batch sizes, score only batch 1 and the fastest
  --all_images            score also images without annotation (COCO's official protocol)
  --keep_outputs          keep the outputs of each batch size (15 GB each on val2017)
  --in_process            decode while the model runs; no output files at all
  --threshold=0.23        mAP to reach
  --device=0              ascend: cards, such as 0,1,2,3; onnxruntime, torch: cpu or cuda:0
  --ais_infer=PATH        ascend: ais_infer.py of 2022 (or $AIS_INFER), if ais_bench is missing
  --help                  this text

Example: bash test/ssd_eval_acc_perf.sh --data_path=/data/coco --batch_sizes=1,16
EOF
}

# Settles auto, and says why; sets `tool` for ascend.
choose_engine() {
    local -a ask=(python3 "$root/ssd_ascend.py" tool)
    if [[ -f $models ]]; then
        case $engine:$models in
            auto:*.onnx) engine=onnxruntime ;;
            auto:*.pt | auto:*.pth) engine=torch ;;
            auto:*.om) engine=ascend ;;
            onnxruntime:*.onnx | openvino:*.onnx | torch:*.pt | torch:*.pth | ascend:*.om) ;;
            *) die 2 "--engine=$engine does not run $models; leave --engine out" ;;
        esac
    fi
    [[ $engine == auto || $engine == ascend ]] || return 0
    [[ ! $device =~ ^[0-9] ]] || ask+=(--device "$device")
    [[ -z $ais_infer ]] || ask+=(--ais_infer "$ais_infer")
    source_toolkit
    if tool=$("${ask[@]}" 2>&1); then
        [[ $tool != *$'\n'* ]] || printf '%s\n' "${tool%$'\n'*}" >&2  # what speaks against cards
        tool=${tool##*$'\n'}
        if [[ $tool == "ais_bench in process" ]]; then
            tool=ais_bench in_process=yes
            note "this ais_bench refuses file names such as tensor([139]).bin: --in_process is taken"
        fi
        note "engine ascend: $tool and a card are there"
        engine=ascend
    elif [[ $engine == ascend ]]; then
        die 1 "--engine=ascend: ${tool##*error: }"
    else
        note "engine onnxruntime: ${tool##*error: }"
        engine=onnxruntime
    fi
}

# Prints the model's path for a batch size.
model_of() {  # BATCH
    local name=ssd_bs$1${variant:+_$variant} suffix=onnx
    if [[ -f $models ]]; then
        printf '%s\n' "$models"
        return 0
    fi
    [[ $engine != ascend ]] || suffix=om
    [[ -f $models/$name.$suffix || ! -f $models/ssd_dynamic.$suffix ]] || name=ssd_dynamic
    printf '%s\n' "$models/$name.$suffix"
}

# Runs ais_bench or ais_infer.py, keeps its log, and explains a failure.
run_tool() {  # NAME ARGUMENT...
    local name=$1 log=$output/$1.log status=0 how=failed
    local -a command=(python3 -m ais_bench --output "$output" --output_dirname "$1" --outfmt BIN)
    shift
    if [[ $tool != ais_bench ]]; then
        mkdir -p -- "$output/$name"  # this tool wants it there, and makes a dated folder in it
        command=(python3 "$tool" --output "$output/$name" --outfmt BIN)
    fi
    "${command[@]}" "$@" >"$log" 2>&1 || status=$?
    if ((status)); then
        tail -n 5 -- "$log" >&2
        python3 "$root/ssd_ascend.py" explain "$log" >&2 || true
        ((status <= 128)) || how="was killed by signal $((status - 128))"
        die "$status" "inference tool $how (log $log); what was done before it is kept"
    fi
}

# Runs the model over the input files, or without any, into $output/NAME.
infer() {  # NAME MODEL BATCH [ARGUMENT...]
    local name=$1 model=$2 batch=$3 start
    shift 3
    rm -rf -- "${output:?}/$name" "$output/$name"_{summary,wall}.json  # a former run's
    if [[ $engine == ascend && $in_process == no || $engine == ascend && $name == *_perf ]]; then
        printf '[%s on %s]\n' "$name" "${tool##*/}" >&2
        [[ $model != */ssd_dynamic.om ]] || set -- "$@" --dymBatch "$batch"
        [[ $device != *,* || $name == *_perf ]] || set -- "$@" "${divide[@]}"
        start=$(date +%s.%N)
        run_tool "$name" --model "$model" --batchsize "$batch" --device "$device" "$@"
        printf '{"model": "%s", "start": %s, "end": %s}\n' "${model##*/}" "$start" \
            "$(date +%s.%N)" >"$output/${name}_wall.json"
    else
        stage "$name" python3 "$root/ssd_infer.py" --model "$model" --batchsize "$batch" \
            --output "$output" --output_dirname "$name" "${engine_options[@]}" "$@"
    fi
}

# Scores one batch size.
score() {  # BATCH
    local batch=$1 name=bs$1 model detections=$output/bs$1_detections.json
    local -a options=("${data[@]}" --threshold "$threshold" --output "$output/${name}_result.json")
    model=$(model_of "$batch")
    if [[ $in_process == yes ]]; then
        infer "$name" "$model" "$batch" --input "$inputs" --detections "$detections" "${data[@]}"
        options+=(--score-only "$detections")
    else
        infer "$name" "$model" "$batch" --input "$inputs"
        options+=(--bin-input "$output/$name" --detections "$detections")
    fi
    stage "scoring, batch $batch" python3 "$root/ssd_postprocess.py" "${options[@]}"
    if [[ $keep_outputs == no && -d $output/$name ]]; then
        find "$output/$name" -name 'tensor*' -delete  # summaries of several cards stay
    fi
}

# Times pure inference of one batch size.
time_pure() {  # BATCH
    local runs=$loop model
    model=$(model_of "$1")
    if [[ $runs == auto ]]; then
        runs=100  # a card is quick
        [[ $engine == ascend || $device == cuda* ]] || runs=$(($1 < 8 ? 24 / $1 : 3))
    fi
    infer "bs$1_perf" "$model" "$1" --loop "$runs"
    [[ ! -d $output/bs$1_perf ]] || find "$output/bs$1_perf" -name '*.bin' -delete
}

# Runs a step unless an interrupted run has done it with the same model and options.
once() {  # NAME BATCH FUNCTION
    local stamp=$output/.$1$2.done model made_with
    model=$(model_of "$2")
    made_with="$(cksum <"$model") $(cksum <"${data[3]}") $engine ${tool##*/} $options_line"
    if [[ -f $stamp && $(<"$stamp") == "$made_with" ]]; then
        note "$1, batch $2: kept from the interrupted run"
        return 0
    fi
    "$3" "$2"
    printf '%s\n' "$made_with" >"$stamp"
}

# Checks what can be checked before any work, and makes what all batch sizes share.
prepare() {
    local batch dtype='' one model instances=$data_path/annotations/instances_val2017.json
    local -a reserve=()
    for batch in "${batch_list[@]}"; do
        model=$(model_of "$batch")
        [[ -f $model ]] || die 1 "$model: no such model; make it with test/ssd_pth2om.sh"
        one=$(python3 "$root/ssd_infer.py" --model "$model" --print_dtype) || exit
        [[ -z $dtype || $dtype == "$one" ]] ||
            die 1 "$model takes $one, the models before it $dtype; convert them alike"
        dtype=$one
    done
    [[ $dtype == float32 ]] || inputs+=_$dtype
    data=(--data "$data_path" --annotation "$output/bbox_only_instances_val2017.json"
        "${images[@]}" "${all_images[@]}")
    if [[ $in_process == no ]]; then
        reserve=(--reserve-outputs 1)
        [[ $keep_outputs == no ]] || reserve=(--reserve-outputs "${#batch_list[@]}")
    fi
    stage annotations python3 "$root/prepare-json.py" --keep-keys "${annotation:-$instances}" \
        "${data[3]}"
    stage preprocess python3 "$root/ssd_preprocess.py" "${data[@]}" --bin-output "$inputs" \
        --dtype "$dtype" "${reserve[@]}"
}

# Tells the report how the numbers came about.
report() {
    local fact
    local -a facts=(--fact "command=$command_line" --fact "data=$data_path")
    if [[ $engine == ascend ]]; then
        facts+=(--fact "engine=${tool##*/}" --fact "devices=$device")
        facts+=(--fact "route=$([[ $in_process == yes ]] && echo in process || echo files)")
        while IFS= read -r fact; do
            facts+=(--fact "$fact")
        done < <(python3 "$root/ssd_ascend.py" facts "$(model_of "${batch_list[0]}")")
    fi
    rm -f -- "$output/report.json"  # its facts are a former run's
    stage report python3 "$root/ssd_report.py" "$output" "${data[@]}" "${facts[@]}" \
        --batch_sizes "$batch_sizes"
}

# Reads the command line into main's variables.
read_options() {
    while (($#)); do
        case $1 in
            --data_path=*) data_path=${1#*=} ;;
            --annotation=*) annotation=${1#*=} ;;
            --images=*) images=(--images "${1#*=}") ;;
            --batch_sizes=*) batch_sizes=${1#*=} ;;
            --models=*) models=${1#*=} ;;
            --variant=*) variant=${1#*=} ;;
            --output=*) output=${1#*=} ;;
            --engine=*) engine=${1#*=} ;;
            --precision=*) precision=${1#*=} ;;
            --loop=*) loop=${1#*=} ;;
            --fast) fast=yes ;;
            --all_images) all_images=(--all-images) ;;
            --keep_outputs) keep_outputs=yes ;;
            --in_process) in_process=yes ;;
            --threshold=*) threshold=${1#*=} ;;
            --device=*) device=${1#*=} ;;
            --ais_infer=*) ais_infer=${1#*=} ;;
            --help) usage && exit 0 ;;
            *) unknown_option "$1" ;;
        esac
        shift
    done
}

# Checks the options together, and settles what follows from them.
settle_options() {
    [[ -n $data_path ]] || die 2 "--data_path=DIR is missing; see --help"
    read_batch_sizes "$batch_sizes"
    check_choice --engine "$engine" auto ascend onnxruntime openvino torch
    check_choice --precision "$precision" f32 bf16 int8
    [[ $loop == auto || $loop =~ ^[1-9][0-9]*$ ]] || die 2 "--loop=$loop: give a number of runs"
    [[ $threshold =~ ^(0?\.[0-9]+|[01](\.0*)?)$ ]] || die 2 "--threshold=$threshold: give 0 to 1"
    [[ $device =~ ^([0-9]+(,[0-9]+)*|cpu|cuda(:[0-9]+)?)$ ]] ||
        die 2 "--device=$device: give cards such as 0,1, or cpu or cuda:0"
    [[ $engine == openvino || $precision == f32 ]] ||
        die 2 "--precision=$precision is for --engine=openvino"
    [[ $engine != torch || -f $models ]] || die 2 "--engine=torch: give the checkpoint, --models=FILE"
    [[ $precision != int8 || -n $variant ]] || variant=int8
    [[ ! -d $data_path/coco ]] || data_path=$data_path/coco
    [[ -d $data_path ]] || die 1 "$data_path: no such folder; give the one that holds val2017/"
    choose_engine
    if [[ $engine == ascend && $tool != ais_bench ]]; then
        [[ $in_process == no ]] || die 1 "--in_process needs ais_bench, not ${tool##*/}"
        [[ $device != *,* ]] || die 1 "--device=$device: ${tool##*/} takes one card; give one"
    fi
    if [[ $engine == ascend && ! $device =~ ^[0-9] || $engine != ascend && $device == *,* ]]; then
        die 1 "--device=$device is not for the engine $engine; give another"
    fi
    [[ $engine == onnxruntime && $device == 0 ]] || engine_options=(--device "$device")
    [[ $engine == ascend || $engine == onnxruntime ]] || engine_options+=(--engine "$engine")
    [[ $precision == f32 ]] || engine_options+=(--precision "$precision")
    if [[ $engine == ascend && $device == *,* && $tool == ais_bench ]] &&
        python3 -m ais_bench --help | grep divide_input >/dev/null; then  # -q would break the pipe
        divide=(--divide_input 1)  # without it every card would run all inputs
    fi
}

main() {
    local data_path='' annotation='' batch_sizes=1,16 engine=auto models=. output=./result loop=auto
    local keep_outputs=no in_process=no threshold=0.23 fast=no variant='' device=0 precision=f32
    local ais_infer=${AIS_INFER:-} tool='' command_line="${0##*/} $*" batch best inputs options_line
    local -a batch_list data images=() all_images=() engine_options=() divide=()
    read_options "$@"
    settle_options
    # newer ais_bench refuses a result folder that others may read or write
    [[ $engine != ascend ]] || (umask g-w,o-rwx && make_folder "$output")
    make_folder "$output"
    inputs=$output/ssd_bin
    options_line="$data_path ${annotation:-} ${images[*]} ${all_images[*]} $in_process $threshold"
    options_line+=" $loop $device $keep_outputs $precision"
    prepare
    if [[ $fast == yes ]]; then
        for batch in "${batch_list[@]}"; do
            once timing "$batch" time_pure
        done
        best=$(python3 "$root/ssd_report.py" "$output" --batch_sizes "$batch_sizes" --print-best)
        note "fastest: batch $best; scoring it and batch 1"
        for batch in "${batch_list[@]}"; do
            if [[ $batch == 1 || $batch == "$best" ]]; then
                once scoring "$batch" score
            else
                rm -f -- "$output/bs$batch"_{summary,wall,result,detections}.json  # a former run's
                rm -f -- "$output/.scoring$batch.done"
            fi
        done
    else
        for batch in "${batch_list[@]}"; do
            once scoring "$batch" score
            once timing "$batch" time_pure
        done
    fi
    report
    rm -f -- "$output"/.*.done
    echo success
}

main "$@"
