"""A training run: its start, its learning rates, and its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from tools.training.chat import TINY_CHAT, batches, blend, export, report, train  # noqa: E402
from tools.training.chat.model import ChatConfig  # noqa: E402

FIRST = {"parameters": 5, "steps": 8400, "tokens_read": 300, "tokens_learned": 100, "hours": 1.5}


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A model with the tokenizer of tiny-chat, its weights drawn, exported as `export` does it."""
    run = tmp_path / "first"
    run.mkdir()
    (run / "tokenizer.json").write_bytes((TINY_CHAT / "tokenizer.json").read_bytes())
    plan = train.Plan(out=run)
    config = ChatConfig(vocab_size=train.load_tokenizer(plan).get_vocab_size())
    torch.manual_seed(3)
    model = train.ChatModel(config)
    torch.save({"model": model.state_dict(), "config": config.__dict__}, run / train.LATEST)
    target = tmp_path / "exported"
    export.export(run, target)
    (target / "report.json").write_text(json.dumps({"training": FIRST}))
    return target


def begun(plan: train.Plan) -> tuple[Any, Any]:
    plan.out.mkdir(exist_ok=True)
    config = ChatConfig(vocab_size=train.load_tokenizer(plan).get_vocab_size())
    model, _, progress = train._begin(config, plan)
    return model, progress


def test_a_run_goes_on_from_an_exported_model(exported: Path, tmp_path: Path) -> None:
    plan = train.Plan(out=tmp_path / "second", start_from=exported)
    model, progress = begun(plan)
    torch.manual_seed(3)
    first = train.ChatModel(model.config)
    assert progress == train.Progress()
    assert (plan.out / "tokenizer.json").read_bytes() == (exported / "tokenizer.json").read_bytes()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, first.state_dict()[name].bfloat16().float()), name


def test_a_stopped_run_goes_on_from_itself(exported: Path, tmp_path: Path) -> None:
    plan = train.Plan(out=tmp_path / "second", start_from=exported)
    model, _ = begun(plan)
    with torch.no_grad():
        model.model.norm.weight.fill_(7.0)
    state = {
        "model": model.state_dict(),
        "optimizer": train.Optimizer(model, plan.matrix_rate, plan.other_rate).state(),
    }
    torch.save({**state, "progress": {"step": 40, "tokens": 1, "learned": 1, "seconds": 1.0}}, plan.out / train.LATEST)
    again, progress = begun(plan)
    assert progress.step == 40
    assert again.model.norm.weight.eq(7.0).all()


def test_going_on_is_long_from_the_first_step() -> None:
    """What a curriculum begins with is known by then."""
    assert train._stage(0, train.Plan(Path("x"))) is batches.CURRICULUM[0]
    assert train._stage(0, train.Plan(Path("x"), start_from=Path("y"))) is batches.CURRICULUM[-1]


def test_rates_rise_stay_and_fall() -> None:
    plan = train.Plan(Path("x"), steps=1000, peak=0.5, warm_up=100, decay_from=0.6)
    assert train.rate(0, plan) == pytest.approx(0.005)
    assert train.rate(99, plan) == train.rate(600, plan) == pytest.approx(0.5)
    assert train.rate(800, plan) == pytest.approx(0.25)
    assert train.rate(999, plan) == pytest.approx(0.005)


def test_two_runs_are_blended_by_a_share(exported: Path, tmp_path: Path) -> None:
    progress = {"step": 40, "tokens": 1, "learned": 1, "seconds": 3600.0}
    for name, value in (("before", 1.0), ("after", 3.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_text("{}")
        state = {"model": {"w": torch.full((2,), value)}, "progress": progress, "config": {}, "earlier": [FIRST]}
        torch.save(state, tmp_path / name / train.LATEST)
    blend.blend(tmp_path / "after", tmp_path / "before", 0.25, tmp_path / "out")
    blended = torch.load(tmp_path / "out" / train.LATEST, weights_only=True)
    assert blended["model"]["w"].tolist() == [1.5, 1.5]
    page = report.markdown({"training": report.training(tmp_path / "out"), "cases": 1, "seed": 7, "skills": []})
    assert "the weights behind run 2 being 25% its own and the rest those before it" in page
    with pytest.raises(ValueError, match="share"):
        blend.blend(tmp_path / "after", tmp_path / "before", 1.5, tmp_path / "out")


def test_the_report_tells_of_every_run(exported: Path, tmp_path: Path) -> None:
    earlier = train.earlier_runs(exported)
    progress = {"step": 3600, "tokens": 700, "learned": 200, "seconds": 1800.0}
    run = tmp_path / "second"
    run.mkdir()
    torch.save({"model": {"w": torch.zeros(5)}, "progress": progress, "earlier": earlier}, run / train.LATEST)
    training = report.training(run)
    assert training["earlier"] == [FIRST]
    assert training["steps"] == 3600
    page = report.markdown({"training": training, "cases": 1, "seed": 7, "skills": []})
    assert "- 5 parameters, 8,400, then 3,600 steps (each run from the weights of the one before" in page
    assert "1,000 tokens read, of which 300 were learned to write, 2.00 hours" in page
    (exported / "report.json").write_text(json.dumps({"training": training}))
    assert [past["steps"] for past in train.earlier_runs(exported)] == [8400, 3600]
    assert all("earlier" not in past for past in train.earlier_runs(exported))
