"""What a model can do, as report.json and, made from it, report.md."""

import json
from pathlib import Path
from typing import Any

import torch


def training(run: Path) -> dict[str, Any]:
    """What the run did, from its last checkpoint.

    `earlier` tells of the runs whose weights it went on from, `share` how much of it `blend` took into the weights.
    """
    saved = torch.load(run / "latest.pt", weights_only=True)
    progress = saved["progress"]
    training = {
        "parameters": sum(weight.numel() for weight in saved["model"].values()),
        "steps": progress["step"],
        "tokens_read": progress["tokens"],
        "tokens_learned": progress["learned"],
        "hours": round(progress["seconds"] / 3600, 2),
    }
    return training | {key: saved[key] for key in ("earlier", "share") if saved.get(key)}


def write(target: Path, content: dict[str, Any]) -> None:
    """Write both files."""
    (target / "report.json").write_text(json.dumps(content, indent=2) + "\n")
    (target / "report.md").write_text(markdown(content))


def markdown(content: dict[str, Any]) -> str:
    """The report as a page to read."""
    training = content["training"]
    runs = [*training.get("earlier", []), training]
    steps = ", then ".join(f"{run['steps']:,}" for run in runs) + " steps"
    if len(runs) > 1:
        steps += " (each run from the weights of the one before, with a fresh optimizer and new data)"
    for number, run in enumerate(runs, 1):
        if "share" in run:
            steps += f", the weights behind run {number} being {run['share']:.0%} its own and the rest those before it"
    read, learned, hours = (sum(run[key] for run in runs) for key in ("tokens_read", "tokens_learned", "hours"))
    lines = [
        "# Report on tiny-chat",
        "",
        "Made by `tools.training.chat.evaluate` from `report.json`; do not edit by hand.",
        "",
        f"- {training['parameters']:,} parameters, {steps}, {read:,} tokens read, of which"
        f" {learned:,} were learned to write, {hours:.2f} hours on two CPU threads.",
        f"- {content['cases']} cases for each line, seed {content['seed']}. The values to be copied (names, words,"
        " numbers) were kept out of training as values; numbers under 100, times, currencies and states such as ok are"
        " shared. The phrasings of the second table were kept out too, though most of their words were not, and the"
        " training phrasings were widened after a look at what failed there: it is a development set.",
        "- Greedy decoding. An answer counts only if all of it is right.",
        "",
    ]
    for title, unseen in (("Phrasings of the training data", False), ("Phrasings never seen", True)):
        lines += [f"## {title}", "", "| skill | right | goal | |", "| --- | ---: | ---: | --- |"]
        for row in content["skills"]:
            if row["unseen_phrasing"] != unseen:
                continue
            goal = f"{row['goal']:.0%}" if row["goal"] else "none"
            verdict = "" if not row["goal"] else "reached" if row["accuracy"] >= row["goal"] else "**missed**"
            name = row["skill"].removesuffix(", unseen phrasing")
            lines.append(f"| {name} | {row['accuracy']:.1%} | {goal} | {verdict} |")
        lines.append("")
    return "\n".join(lines)
