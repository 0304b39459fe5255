"""Text to ids and back, templates, and streams that never show half a character."""

import threading

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ark.config import ConfigError
from ark.errors import BadRequest
from ark_backends.kit.tokenizer import HFTokenizer, load_tokenizer

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>"]
CORPUS = ["the quick brown fox jumps over the lazy dog, naïve café", "日本語 中文 한국어", "😀 e\u0301 Ω"]
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'tool' %}{{ raise_exception('tools are not known here') }}{% endif %}"
    "<|im_start|>{{ message.role + '\n' }}{{ message.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if tools %}{{ tools | tojson }}{% endif %}{{ flavour }}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_level() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=SPECIALS, show_progress=False
    )
    core.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>", chat_template=TEMPLATE)


def byte_fallback() -> PreTrainedTokenizerFast:
    """Like SentencePiece: spaces as ▁, and bytes for characters that are not in the vocabulary."""
    pieces = [*SPECIALS, "<unk>", *(f"<0x{i:02X}>" for i in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyzé日本.,"]
    core = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    )
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.add_special_tokens(SPECIALS)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>", unk_token="<unk>")


BYTE_LEVEL = HFTokenizer(byte_level())
BYTE_FALLBACK = HFTokenizer(byte_fallback())

texts = st.lists(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from([*"ab é", "😀", "👩\u200d👧", "日", "本", "e\u0301", "\u200d", "\ufe0f", "\ufffd"]),
    ),
    max_size=30,
).map("".join)


def cut(ids: list[int], sizes: list[int]) -> list[list[int]]:
    """Ids in pieces of the given sizes, over and over."""
    pieces, start, turn = [], 0, 0
    while start < len(ids):
        size = sizes[turn % len(sizes)]
        pieces.append(ids[start : start + size])
        start, turn = start + size, turn + 1
    return pieces


def streamed(tokenizer: HFTokenizer, ids: list[int], sizes: list[int]) -> list[str]:
    stream = tokenizer.stream()
    return [*(stream.push(piece) for piece in cut(ids, sizes)), stream.flush()]


sizes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, BYTE_FALLBACK], ids=["byte level", "byte fallback"])
@settings(max_examples=150, deadline=None)
@given(text=texts, sizes=sizes)
@example(text="😀日本 x", sizes=[1])
@example(text="\ufffd\ufffd", sizes=[1])
@example(text="\x80\ufffd0\x80", sizes=[2])
def test_streamed_text_is_the_decoded_text(tokenizer, text, sizes):
    ids = tokenizer.encode(text)
    pieces = streamed(tokenizer, ids, sizes)
    assert "".join(pieces) == tokenizer.decode(ids)
    if "\ufffd" not in text:
        # An emitted piece never holds the sign of half a character.
        assert not any("\ufffd" in piece for piece in pieces)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=80), sizes=sizes)
@example(data=b"\xf0\x9f\x98", sizes=[1])
@example(data=b"\xe6\x97" * 40 + b"ab", sizes=[1])
@example(data=b"\x80" * 100, sizes=[3])
@example(data=b"\x80" * 70 + "😀".encode() * 5, sizes=[1])
def test_broken_bytes_are_those_of_the_whole(data, sizes):
    byte = {text: i for text, i in BYTE_LEVEL._core.get_vocab().items() if len(text) == 1}
    table = _byte_letters()
    ids = [byte[table[value]] for value in data]
    assert "".join(streamed(BYTE_LEVEL, ids, sizes)) == data.decode("utf-8", "replace") == BYTE_LEVEL.decode(ids)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(min_size=1, max_size=30), sizes=sizes)
def test_broken_fallback_bytes_lose_no_characters_around_them(data, sizes):
    fallback = BYTE_FALLBACK._core.token_to_id
    ids = [
        *BYTE_FALLBACK.encode("abc"),
        *(fallback(f"<0x{value:02X}>") for value in data),
        *BYTE_FALLBACK.encode("xyz"),
    ]
    text = "".join(streamed(BYTE_FALLBACK, ids, sizes))
    assert text.startswith("abc")
    assert text.endswith("xyz")


def test_a_broken_fallback_byte_does_not_repeat_what_is_out():
    stream = BYTE_FALLBACK.stream()
    fallback = BYTE_FALLBACK._core.token_to_id
    pieces = [stream.push([fallback(f"<0x{value:02X}>") for value in "😀".encode()])]
    pieces.append(stream.push([fallback("<0xE4>")]))
    pieces.append(stream.push([fallback("x")]))
    assert pieces == ["😀", "", "\ufffdx"]


def _byte_letters() -> dict[int, str]:
    """The letter that byte-level BPE writes for each byte: printable ones as themselves, the others from U+0100 on."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {value: chr(value) for value in kept}
    others = [value for value in range(256) if value not in letters]
    return letters | {value: chr(256 + i) for i, value in enumerate(others)}


def test_a_character_comes_with_its_last_byte():
    stream = BYTE_LEVEL.stream()
    pieces = [stream.push([i]) for i in BYTE_LEVEL.encode("a\U0001f9ffb")]
    assert "".join(pieces) == "a\U0001f9ffb"
    assert "" in pieces


def test_held_back_bytes_come_out_at_the_end():
    stream = BYTE_LEVEL.stream()
    assert stream.push(BYTE_LEVEL.encode("ab\U0001f9ff")[:-1]) == "ab"
    assert stream.flush() == "\ufffd"
    assert stream.flush() == ""


def test_special_tokens_give_no_text_but_tags_do():
    ids = BYTE_LEVEL.encode("<think>so</think>hi<tool_call>{}</tool_call><|im_end|>")
    assert "".join(streamed(BYTE_LEVEL, ids, [1])) == "<think>so</think>hi<tool_call>{}</tool_call>"
    assert BYTE_LEVEL.decode(ids).endswith("<|im_end|>")


def test_special_tokens_in_text_are_ids():
    assert BYTE_LEVEL.encode("<|im_end|>") == [SPECIALS.index("<|im_end|>")]
    assert BYTE_LEVEL.encode("") == []


def test_lone_surrogates_are_replaced():
    assert BYTE_LEVEL.decode(BYTE_LEVEL.encode("a\ud800b")) == "a\ufffdb"
    assert BYTE_LEVEL.decode(BYTE_LEVEL.encode("\ud83d\ude00")) == "😀"


def test_render():
    text = BYTE_LEVEL.render([{"role": "user", "content": " hi "}], template_kwargs={"flavour": "sweet"})
    assert text == "<|im_start|>user\nhi<|im_end|>\nsweet<|im_start|>assistant\n"
    tools, users = [{"type": "function", "function": {"name": "f"}}], [{"role": "user", "content": "x"}]
    assert '"name": "f"' in BYTE_LEVEL.render(users, tools=tools, add_generation_prompt=False)


def test_what_the_template_refuses_is_a_bad_request():
    with pytest.raises(BadRequest, match="tools are not known here"):
        BYTE_LEVEL.render([{"role": "tool", "content": "x"}])
    with pytest.raises(BadRequest, match="template"):
        BYTE_LEVEL.render([{"role": 1, "content": "x"}])
    with pytest.raises(BadRequest, match="chat_template"):
        BYTE_LEVEL.render([], template_kwargs={"chat_template": "{{ 1 }}"})
    with pytest.raises(BadRequest, match="no chat template"):
        BYTE_FALLBACK.render([{"role": "user", "content": "x"}])


def test_many_threads_at_once():
    text = "the quick brown fox " * 50
    expected = BYTE_LEVEL.encode(text)
    wrong = []

    def work():
        for _ in range(50):
            if BYTE_LEVEL.encode(text) != expected or BYTE_LEVEL.render([{"role": "user", "content": "x"}]) == "":
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_load_collects_what_ends_a_turn(tmp_path):
    byte_level().save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [11, 12]}')
    (tmp_path / "config.json").write_text('{"eos_token_id": 13, "model_type": "llama"}')
    tokenizer = load_tokenizer(tmp_path)
    # 0 is the tokenizer's own, 2 is <|im_end|>, which stands in the template.
    assert tokenizer.stop_token_ids == {0, 2, 11, 12, 13}
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer.vocab_size == len(byte_level())


def test_load_without_a_tokenizer(tmp_path):
    with pytest.raises(ConfigError, match="tokenizer"):
        load_tokenizer(tmp_path)
    byte_level().save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text("[")
    with pytest.raises(ConfigError, match="generation_config"):
        load_tokenizer(tmp_path)


def test_load_with_a_broken_template(tmp_path):
    wrapped = byte_level()
    for template, broken in (
        ("{% for message in messages %}{{ message.content", True),
        ("{% frobnicate %}", True),
        ("{{ raise_exception('the first message must be of the system') }}", False),
        (None, False),
    ):
        wrapped.chat_template = template
        wrapped.save_pretrained(tmp_path)
        if template is None:
            (tmp_path / "chat_template.jinja").unlink()
        if broken:
            with pytest.raises(ConfigError, match=r"chat template .* broken"):
                load_tokenizer(tmp_path)
        else:
            load_tokenizer(tmp_path)


def test_letters_whose_normal_form_is_a_special_tokens_are_text():
    core = byte_level().backend_tokenizer
    core.normalizer = normalizers.NFKC()
    core.add_special_tokens([AddedToken("<|end|>", normalized=True, special=True)])
    core.add_tokens([AddedToken("<args>", normalized=True)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>", chat_template=TEMPLATE)
    tokenizer = HFTokenizer(wrapped)
    for token in ("<|end|>", "<args>"):
        assert len(tokenizer.encode(token)) == 1
        assert tokenizer.decode(tokenizer.encode(f"a{token}b")) == f"a{token}b"
        assert len(tokenizer.encode(token.replace("<", "\uff1c"))) > 1
