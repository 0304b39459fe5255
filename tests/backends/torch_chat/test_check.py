"""Models that the packed pass would compute wrongly are refused at load."""

import copy
import dataclasses

import pytest
import torch
import transformers

from ark_backends.torch_chat import check, compiled
from ark_backends.torch_chat.attention import Plan, UnsupportedModel
from ark_backends.torch_chat.check import self_check
from ark_backends.torch_chat.runner import Runner, longest_context

SMALL = {"vocab_size": 101, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
         "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip


def build(name, **more):
    torch.manual_seed(1)
    config = getattr(transformers, f"{name}Config")(**{**SMALL, **more})
    return transformers.AutoModelForCausalLM.from_config(config).eval()


needs_kernels = pytest.mark.skipif(compiled.unable() is not None, reason="this CPU is not one for compiled kernels")


@pytest.mark.parametrize("architecture", ["Llama", "Qwen2", "Qwen3", "Mistral", "Gemma2", "Gemma3Text", "GptOss"])
def test_served_architectures_pass(tiny, architecture):
    self_check(Runner(copy.deepcopy(tiny(architecture).plain)))


@needs_kernels
@pytest.mark.parametrize("architecture", ["Qwen3", "Gemma2", "Gemma3Text"])
def test_compiled_architectures_pass(tiny, architecture):
    check_compiled(Runner(copy.deepcopy(tiny(architecture).plain)))


@needs_kernels
@pytest.mark.parametrize("architecture", ["Llama", "Qwen2", "Mistral"])
def test_compiled_architectures_without_a_head_size_of_their_own_pass(architecture):
    check_compiled(Runner(build(architecture, hidden_size=64, initializer_range=0.2)))


def check_compiled(runner):
    known = check.cases(runner)
    assert compiled.unfit(runner.model, runner.spec) is None
    runner.compile()
    self_check(runner, known)


@needs_kernels
@pytest.mark.parametrize(("architecture", "reason"), [("Llama", "heads of 12"), ("GptOss", "architecture")])
def test_what_the_kernels_are_not_made_for_is_named(tiny, architecture, reason):
    runner = Runner(copy.deepcopy(tiny(architecture).plain))
    assert reason in compiled.unfit(runner.model, runner.spec)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_pass(tiny, dtype):
    self_check(Runner(copy.deepcopy(tiny("Qwen3").plain).to(dtype)))


@pytest.mark.parametrize("kernels", [False, True], ids=["packed", "compiled"])
def test_a_long_window_is_checked_short(kernels):
    model = build("Mistral", sliding_window=200, initializer_range=0.2, head_dim=16)
    runner = Runner(model)
    known = check.cases(runner)
    assert model.config.sliding_window == 200
    if kernels:
        if compiled.unable() is not None:
            pytest.skip("this CPU is not one for compiled kernels")
        runner.compile()
    seen = []
    forward = runner.forward
    runner.forward = lambda pieces, wanted: (seen.append(runner.spec.windows), forward(pieces, wanted))[1]
    self_check(runner, known)
    assert seen[0] == (check.SHORT_WINDOW,) * 2
    assert runner.spec.windows == (200, 200)
    runner.attend_to((None, 200))
    assert runner.spec.windows == (None, 200)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: build("GPTJ", n_embd=32, n_layer=2, n_head=4, rotary_dim=4), "attention interface"),
        (lambda: build("Falcon", multi_query=True), "attention interface"),
        (lambda: build("Bloom", n_head=4), "attention interface"),
        (lambda: build("Lfm2", layer_types=["conv", "full_attention"]), "conv"),
        (lambda: build("Qwen3Next", head_dim=8, num_experts=2, layer_types=["linear_attention", "full_attention"],
                       linear_num_value_heads=2, linear_num_key_heads=2, linear_key_head_dim=8,
                       linear_value_head_dim=8), "attention"),
    ],
    ids=["GPTJ", "Falcon", "Bloom", "Lfm2", "Qwen3Next"],
)  # fmt: skip
def test_others_are_refused(model, reason):
    with pytest.raises(UnsupportedModel, match=reason):
        Runner(model())


def test_a_model_that_drops_the_keyword_is_refused():
    with pytest.raises(UnsupportedModel):
        self_check(Runner(build("StableLm")))


def test_layers_may_differ_in_their_queries():
    more = {"num_attention_heads_per_layer": [4, 8], "layer_types": ["full_attention", "sliding_attention"]}
    self_check(Runner(build("Laguna", head_dim=8, sliding_window=16, mlp_layer_types=["dense", "dense"], **more)))


@pytest.mark.skipif(compiled.unable() is not None, reason="this CPU is not one for compiled kernels")
@pytest.mark.parametrize("fault", ["window", "scale", "weights"])
def test_kernels_that_compute_something_else_are_noticed(tiny, fault):
    model = copy.deepcopy(tiny("Gemma3Text").plain)
    runner = Runner(model)
    known = check.cases(runner)
    if fault == "window":
        known = [dataclasses.replace(case, windows=(None, None)) for case in known]
    elif fault == "scale":
        model.model.layers[0].self_attn.scaling *= 1.3
    else:
        model.model.layers[1].mlp.up_proj.weight.data[5] *= 2.0
    runner.compile()
    with pytest.raises(UnsupportedModel, match="differ"):
        self_check(runner, known)


@pytest.mark.parametrize("fault", ["history", "window", "scale"])
def test_wrong_attention_is_noticed(tiny, fault, monkeypatch):
    runner = Runner(copy.deepcopy(tiny("Mistral").plain))
    known = check.cases(runner)
    if fault == "window":
        known = [dataclasses.replace(case, windows=(None, None)) for case in known]
    else:
        attend = Plan.attend

        def wrong(self, layer, query, scale, options):
            if fault == "scale":
                scale *= 1.2
            elif self.singles == 2:
                query = query.flip(2)
            return attend(self, layer, query, scale, options)

        monkeypatch.setattr(Plan, "attend", wrong)
    with pytest.raises(UnsupportedModel, match="differ"):
        self_check(runner, known)


def test_context_is_kept_where_rope_would_mix_conversations():
    plain = transformers.LlamaConfig(**SMALL)
    assert longest_context(plain) == (256, None)
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    assert longest_context(transformers.LlamaConfig(**SMALL, rope_parameters=dynamic)) == (256, None)
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "factor": 4.0}
    longrope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 64, **factors}
    length, reason = longest_context(transformers.LlamaConfig(**SMALL, rope_parameters=longrope))
    assert length == 64
    assert "longrope" in reason
