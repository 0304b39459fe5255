"""The examination: `python -m tools.training.chat.evaluate --model DIR`.

Every answer is decoded greedily and has to be right as a whole. Reasoning is not compared, except
that a secret has to be in it and not in the answer.
"""

import argparse
import json
import multiprocessing
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from tools.training.chat import TINY_CHAT, examination, report
from tools.training.chat.examination import TOPICS, Case

_THOUGHT = re.compile(r"^<think>\n(.*?)\n</think>\n\n", re.S)
_KEPT = re.compile(r"^My (.+) is (.+)\. I will not say it yet\.$")
_FREE_CHOICES = re.compile(
    r"(lived )(by the sea|on a high hill|in a quiet village|near a dark forest)"
    r"|(found )(a golden key|an old map|a silver bell|a small box)"
    r"|(met )(a kind owl|a clever fox|an old sailor|a shy mouse)"
    r"|(home, )(happy and tired|with a big smile|before the rain came|and slept well)"
)


def visible(reply: str) -> str:
    """A reply without its reasoning; what a story is free to choose is blanked."""
    shown = _THOUGHT.sub("", reply).removesuffix("<|im_end|>")
    if shown.startswith("This is a story"):
        shown = _FREE_CHOICES.sub(lambda m: next(g for g in m.groups() if g) + "*", shown)
    return shown


def correct(case: Case, reply: str) -> bool:
    """Whether a reply is right."""
    if visible(reply) != visible(case.expected):
        return False
    if case.skill.startswith("secret kept"):
        thought = _THOUGHT.match(reply)
        kept = _KEPT.match(thought.group(1)) if thought else None
        wanted = _KEPT.match(_THOUGHT.match(case.expected).group(1))  # type: ignore[union-attr]
        return bool(kept and wanted and kept[1] == wanted[1] and kept[2].lower() not in visible(reply).lower())
    return True


@dataclass
class Result:
    """What came of one topic."""

    skill: str
    goal: float
    right: int = 0
    asked: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)

    @property
    def accuracy(self) -> float:
        return self.right / self.asked if self.asked else 0.0


class Candidate:
    """A model to be examined, as transformers loads it."""

    def __init__(self, path: Path) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(path)
        self.tokenizer.padding_side = "left"
        self.model = transformers.AutoModelForCausalLM.from_pretrained(path).eval()

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def answer(self, prompts: list[str], limit: int = 170) -> list[str]:
        """Greedy replies, end token removed."""
        inputs = self.tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        inputs.pop("token_type_ids", None)
        ids = self.model.generate(**inputs, max_new_tokens=limit, do_sample=False)
        replies = self.tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :])
        return [reply.split("<|im_end|>")[0].split("<|endoftext|>")[0] for reply in replies]


def examine(candidate: Candidate, cases: list[Case], goal: float) -> Result:
    """Ask all cases of one topic; short prompts first, so that little is padded."""
    result = Result(cases[0].skill, goal)
    cases = sorted(cases, key=lambda case: len(case.prompt))
    while cases:
        # As many as fit a budget of characters: past the caches, larger batches are slower.
        size = max(1, min(100, 100_000 // len(cases[min(99, len(cases) - 1)].prompt)))
        part, cases = cases[:size], cases[size:]
        for case, reply in zip(part, candidate.answer([c.prompt for c in part]), strict=True):
            result.asked += 1
            if correct(case, reply):
                result.right += 1
            else:
                asked = case.prompt[-160:] if len(result.failures) > 40 else case.prompt[-900:]
                result.failures.append({"asked": asked, "expected": case.expected, "replied": reply})
    return result


@dataclass(frozen=True)
class Task:
    """One topic to be examined, in a process of its own."""

    model: Path
    topic: int
    paraphrased: bool
    count: int
    seed: int

    def __call__(self) -> Result:
        torch.set_num_threads(1)
        topic = TOPICS[self.topic]
        asked = list(examination.cases(topic, self.count, self.seed, self.paraphrased))
        goal = min(topic.goal, 0.85) if self.paraphrased else topic.goal
        return examine(Candidate(self.model), asked, goal)


def _run(task: Task) -> Result:
    return task()


def examination_report(tasks: list[Task], show: int = 0, jobs: int = 2) -> list[dict[str, Any]]:
    """Examine every topic; `show` failures of each are printed."""
    rows: list[dict[str, Any]] = []
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for task, result in zip(tasks, pool.imap(_run, tasks), strict=True):
            rows.append(
                {
                    "skill": result.skill,
                    "unseen_phrasing": task.paraphrased,
                    "goal": result.goal,
                    "accuracy": round(result.accuracy, 4),
                    "right": result.right,
                    "asked": result.asked,
                }
            )
            mark = "ok" if result.accuracy >= result.goal else "BELOW"
            print(f"{result.skill:45} {result.accuracy:7.1%}  goal {result.goal:.0%}  {mark}", flush=True)
            for failure in result.failures[:show]:
                print("   ", json.dumps(failure, ensure_ascii=False)[-900:])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=TINY_CHAT)
    parser.add_argument("--count", type=int, default=200, help="cases of each topic")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--show", type=int, default=0, help="failures to print")
    parser.add_argument("--jobs", type=int, default=2, help="topics examined at once")
    parser.add_argument("--only", default="", help="topics with this in their name")
    parser.add_argument("--run", type=Path, help="the training run; with it, the report is written beside the model")
    arguments = parser.parse_args()
    began = time.monotonic()
    tasks = [
        Task(arguments.model, index, paraphrased, arguments.count, arguments.seed)
        for paraphrased in (False, True)
        for index, topic in enumerate(TOPICS)
        if arguments.only in topic.name and (topic.paraphrased or not paraphrased)
    ]
    rows = examination_report(tasks, arguments.show, arguments.jobs)
    print(f"{time.monotonic() - began:.0f} s")
    if arguments.run:
        content = {
            "training": report.training(arguments.run),
            "cases": arguments.count,
            "seed": arguments.seed,
            "skills": rows,
        }
        report.write(arguments.model, content)


if __name__ == "__main__":
    main()
