"""The pages' words in English and Chinese that stand for names and texts in their JSON."""

import re

FACT_NAMES = {  # English and Chinese names of the facts that the kit records
    "command": ("command line", "命令行"),
    "data": ("data set", "数据集"),
    "scored": ("images scored", "计分图片"),
    "engine": ("engine", "推理引擎"),
    "provider": ("provider", "执行后端"),
    "mode": ("precision mode", "精度模式"),
    "soc_version": ("chip", "芯片型号"),
    "cann": ("CANN", "CANN"),
    "cards": ("cards", "加速卡"),
    "devices": ("devices", "设备号"),
    "route": ("outputs", "输出方式"),
    "machine": ("machine", "机器"),
    "cpus": ("processors", "可用 CPU 数"),
    "cpu_flags": ("processor's instructions", "CPU 指令"),
    "threads": ("threads of the engine", "引擎线程数"),
    "load": ("load before the run (1 minute)", "运行前负载（1 分钟）"),
    "memory": ("most memory", "内存峰值"),
    "date": ("date", "时间"),
    "kit": ("version of the kit", "套件版本"),
    "python": ("Python", "Python"),
    "packages": ("packages", "软件包"),
    "checkpoint_sha256": ("checkpoint SHA-256", "权重 SHA-256"),
}
MISSING = {  # what may be missing from a report, and the text that says so
    "scores": (
        "No batch size was scored here, so the page holds speed alone.",
        "所有批大小都没有评分，因此本页只有速度数据。",
    ),
    "data": (
        "No data set was named (--data), so curves, classes, confusions and images are left out.",
        "未指定数据集（--data），因此没有曲线、各类别、混淆矩阵和图片。",
    ),
    "detections": (
        "The detections cannot be read, so curves, classes, confusions and images are left out:",
        "检测结果文件无法读取，因此没有曲线、各类别、混淆矩阵和图片：",
    ),
    "annotations": (
        "The annotations cannot be scored, so curves, classes, confusions and images are left out:",
        "标注文件无法用于评分，因此没有曲线、各类别、混淆矩阵和图片：",
    ),
    "mismatch": (
        "The data set or the detections are not those that were scored, so curves, classes, "
        "confusions and images may not belong to the mAP above (as scored; here):",
        "数据集或检测结果与评分时不一致，曲线、各类别、混淆矩阵和图片"
        "可能与上面的 mAP 不对应（评分时；此处）：",
    ),
    "images": (
        "Some images of the gallery could not be read:",
        "图库中有些图片无法读取：",
    ),
}
KIND_NAMES = {  # what became of a box
    "found": ("found", "找到"),
    "missed": ("missed", "漏检"),
    "class": ("wrong class", "类别错误"),
    "location": ("wrong place", "定位不准"),
    "both": ("wrong class and place", "类别与定位均错"),
    "duplicate": ("duplicate", "重复检测"),
    "background": ("on background", "背景误检"),
    "crowd": ("crowd", "群体框"),
}
KIND_MEANINGS = {
    "missed": (
        "No detection of the class lies at IoU 0.50 or more.",
        "没有同类检测框的 IoU 达到 0.50。",
    ),
    "class": (
        "The box fits a true one of another class at IoU 0.50 or more.",
        "与另一类别的真实框 IoU 达到 0.50。",
    ),
    "location": (
        "The class is right, the box is not: IoU 0.10 to 0.50.",
        "类别正确但框不准：IoU 在 0.10 与 0.50 之间。",
    ),
    "both": (
        "Near a true box of another class: IoU 0.10 to 0.50.",
        "靠近另一类别的真实框：IoU 在 0.10 与 0.50 之间。",
    ),
    "duplicate": (
        "A better detection already has the true box.",
        "该真实框已被置信度更高的检测框占用。",
    ),
    "background": (
        "No true box is near: IoU 0.10 at most. Or the annotation is missing.",
        "附近没有真实框：IoU 不超过 0.10。也可能是漏标。",
    ),
}
LADDER_CHINESE = {  # what the ladder says of its rungs, in Chinese
    "the goal": "目标",
    "not known": "未知",
    "give the checkpoint with --pth_path": "用 --pth_path 给出权重",
    "make it with ssd_pth2onnx.py": "用 ssd_pth2onnx.py 导出",
    "make it with ssd_pth2onnx.py --input uint8": "用 ssd_pth2onnx.py --input uint8 导出",
    "make it with ssd_quantize.py": "用 ssd_quantize.py 量化",
    "make it with test/ssd_pth2om.sh where atc is": "在装有 atc 的机器上用 test/ssd_pth2om.sh 转换",
    "the checkpoint": "权重",
    "the export: was the ONNX file made of this checkpoint?": (
        "导出：ONNX 文件是由这份权重导出的吗？"
    ),
    "the uint8 inputs (RGB, not BGR; not normalized) and the normalization in the model": (
        "uint8 输入（应为 RGB 而非 BGR，且未归一化），以及模型内部的归一化"
    ),
    "the images of the calibration, and layers that should stay in float (--skip)": (
        "校准用的图片，以及应保留浮点的层（--skip）"
    ),
    "atc's precision (--precision_mode_v2=origin), and with AIPP mean, scale and RGB order": (
        "atc 的精度模式（--precision_mode_v2=origin）；使用 AIPP 时还有均值、缩放和 RGB 顺序"
    ),
    "what all rungs share: images in BGR or resized by another library, the order of the "
    "categories in the annotation file, the checkpoint, the goal itself": (
        "各级共有的部分：图片为 BGR 或由其他库缩放、标注文件中类别的顺序、权重、目标本身"
    ),
    "the order of the labels (the boxes are found again under other ones)": (
        "标签顺序（同样的框被标成了别的类别）"
    ),
}
PHRASES = {  # what the kit says with numbers or names in it, in Chinese
    r"all (\d+) images": r"全部 \1 张图片",
    r"(\d+) of (\d+) images \((\d+) without annotation left out\)": (
        r"\2 张图片中的 \1 张（\3 张无标注，未计入）"
    ),
    r"INT8 in (\d+) of (\d+) convolutions": r"\2 个卷积中有 \1 个为 INT8",
    r"(\d+) of (\d+) boxes reach beyond their images; .*": (
        r"\2 个框中有 \1 个超出图片边界；请检查图片的宽和高"
    ),
    r"(\d+) of (\d+) categories stand in another order than COCO's; .*": (
        r"\2 个类别中有 \1 个的顺序与 COCO 不同；标签 k 对应第 k 个类别：请确认模型按此顺序训练"
    ),
    r"the models are of different checkpoints \((.*)\): rows cannot be compared": (
        r"各模型来自不同的权重（\1）：各行不可比"
    ),
    r"the rows are of different engines \((.*)\): rows cannot be compared": (
        r"各行由不同的推理引擎运行（\1）：各行不可比"
    ),
    r"different annotations or images were scored \((.*)\): rows cannot be compared": (
        r"各行计分的标注或图片不同（\1）：各行不可比"
    ),
    r"THE CPU RUNS THIS, NOT THE CARD: (\d+) cards? \((.*)\) here, but (.*)": (
        r"实际运行的是 CPU，不是加速卡：本机有 \1 块卡（\2），但 \3"
    ),
}
LABEL_FINDINGS = {  # codes of hotcoco's healthcheck
    "degenerate_bbox": ("boxes without width or height", "宽或高为零的框"),
    "zero_area": ("boxes with area 0", "面积为 0 的框"),
    "bbox_out_of_bounds": ("boxes that reach beyond their image", "超出图片边界的框"),
    "extreme_aspect_ratio": ("boxes more than 20 times as long as wide", "长宽比超过 20 的框"),
    "near_duplicate": (
        "boxes that are there twice: same class, IoU above 0.95",
        "重复标注的框：同一类别且 IoU 超过 0.95",
    ),
    "near_duplicate_check_skipped": (
        "images with more than 100 boxes of a class, not searched for doubles",
        "单一类别超过 100 个框的图片，未检查重复标注",
    ),
    "zero_instance_category": ("classes without a box", "没有任何框的类别"),
    "low_instance_category": (
        "classes with fewer than 10 boxes: their AP is uncertain",
        "框数少于 10 的类别：其 AP 不够可靠",
    ),
}


def fact_name(name: str) -> tuple[str, str]:
    """Return the name of a fact, also of one of `compare.flat_facts`, in English and Chinese."""
    if name in FACT_NAMES:
        return FACT_NAMES[name]
    if name.startswith("model, batch "):
        return name, name.replace("model, batch", "模型，批大小")
    name = name.removeprefix("packages: ")
    return name, name


def in_chinese(text: str) -> str:
    """Return a text of the kit in Chinese, or as it is: a message of a tool, say."""
    if text in LADDER_CHINESE:
        return LADDER_CHINESE[text]
    for pattern, chinese in PHRASES.items():
        if found := re.fullmatch(pattern, text):
            return found.expand(chinese)
    for known, chinese in LADDER_CHINESE.items():  # a hint before where to look
        if text.startswith(f"{known}; "):
            return f"{chinese}；{in_chinese(text.removeprefix(f'{known}; '))}"
    return text
