"""What the speech model can do, as report.json and, made from it, report.md."""

import json
from pathlib import Path
from typing import Any

import torch

from tools.training.speech import clips, lexicon


def training(run: Path) -> dict[str, Any]:
    """What the run did, from its last checkpoint."""
    saved = torch.load(run / "latest.pt", weights_only=True)
    progress = saved["progress"]
    exported = ("encoder.", "decoder.")
    return {
        "parameters": sum(w.numel() for name, w in saved["model"].items() if name.startswith(exported)),
        "steps": progress["step"],
        "windows": progress["windows"],
        "audio_hours": round(progress["audio_hours"], 1),
        "hours": round(progress["seconds"] / 3600, 2),
        "words": len(lexicon.vocabulary()),
        "accents": list(clips.ACCENTS),
        "speakers": list(clips.SPEAKERS["train"]),
        "speakers_held_out": list(clips.SPEAKERS["held_out"]),
    }


def write(target: Path, content: dict[str, Any]) -> None:
    """Write both files."""
    (target / "report.json").write_text(json.dumps(content, indent=2) + "\n")
    (target / "report.md").write_text(markdown(content))


def _row(name: str, value: str, goal: str, reached: bool) -> str:
    return f"| {name} | {value} | {goal or 'none'} | {('reached' if reached else '**missed**') if goal else ''} |"


def markdown(content: dict[str, Any]) -> str:
    """The report as a page to read."""
    run, times, silence = content["training"], content["timing"], content["silence"]
    lines = [
        "# Report on the embedded speech model",
        "",
        "Made by `tools.training.speech.evaluate` from `report.json`; do not edit by hand.",
        "",
        f"- {run['parameters']:,} parameters, {run['steps']:,} steps, {run['windows']:,} windows with"
        f" {run['audio_hours']:,} hours of sound, {run['hours']} hours on at most two CPU threads.",
        f"- {run['words']} words, said by espeak-ng: {len(run['accents'])} accents of English with"
        f" {len(run['speakers'])} speakers each, 120 to 210 words a minute."
        f" {len(run['speakers_held_out'])} speakers were held out and have a line of their own.",
        "- The sentences of the examination were held out of training; their words and their patterns were not. Half of"
        " the recordings have noise 25 to 45 dB under full scale.",
        f"- As ARK serves it: through faster-whisper, int8, beam {content['beam']}, temperature 0 and higher ones where"
        f" that comes out badly, each window by itself. Seed {content['seed']}.",
        "",
        "| word error rate | measured | goal | |",
        "| --- | ---: | ---: | --- |",
    ]
    for row in content["topics"]:
        goal = f"under {row['goal']:.0%}" if row["goal"] else ""
        name = f"{row['topic']} ({row['words']:,} words)"
        lines.append(_row(name, f"{row['rate']:.1%}", goal, row["rate"] < row["goal"]))
    lines += ["", "| other | measured | goal | |", "| --- | ---: | ---: | --- |"]
    for name, key, limit in (("segment borders", "segment_borders", 0.3), ("word ends", "word_ends", 0.15)):
        value = times[key]
        shown = "none" if value is None else f"{value:.2f} s"
        lines.append(_row(f"{name}, median error", shown, f"within {limit} s", value is not None and value <= limit))
    lines.append(
        _row(
            "silence, noise, tones and clicks that are given text",
            f"{silence['with_text']} of {silence['sounds']}",
            "0",
            silence["with_text"] == 0,
        )
    )
    return "\n".join([*lines, ""])
