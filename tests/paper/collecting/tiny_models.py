"""An InstructBLIP and a Gemma with random weights of a few numbers, as folders that transformers opens."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertTokenizerFast,
    BlipImageProcessor,
    Gemma2Config,
    Gemma2ForCausalLM,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    PreTrainedTokenizerFast,
    T5Config,
)

WORDS = """
    a bird with black wings and red tail sings loud song at dawn in the forest near water small large white brown beak
    long short call male adult female juvenile nests eggs seeds insects trees over it is of its slender grey blue
    yellow crown
""".split()  # noqa: SIM905
ENDS = 8  # tokens that end a text: a random model then writes some ten words
TURN = "{% for m in messages %}<bos>{{ m.content }} {% endfor %}{% if add_generation_prompt %}<turn>{% endif %}"


def tokenizer(ends: int = 1, chat: bool = False, image: bool = False) -> PreTrainedTokenizerFast:
    special = ["<pad>", "<unk>", "<bos>", "<turn>", *(["<image>"] if image else []), *(f"</s{i}>" for i in range(ends))]
    vocabulary = {word: place for place, word in enumerate([*special, *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    if not chat:
        end = "</s0>"
        inner.post_processor = processors.TemplateProcessing(
            single=f"$A {end}", special_tokens=[(end, vocabulary[end])]
        )
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", bos_token="<bos>", eos_token="</s0>",
        additional_special_tokens=[token for token in special if token not in ("<pad>", "<unk>", "<bos>", "</s0>")],
    )  # fmt: skip
    if chat:
        made.chat_template = TURN
    return made


def save_language_model(folder: Path, seed: int = 0) -> Path:
    """A Gemma 2 that writes words by chance, and its tokenizer with a chat template."""
    words = tokenizer(ENDS, chat=True)
    torch.manual_seed(seed)
    config = Gemma2Config(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=1024, pad_token_id=0, bos_token_id=2,
        eos_token_id=words.convert_tokens_to_ids([f"</s{i}>" for i in range(ENDS)]),
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def save_captioner(folder: Path, seed: int = 1) -> Path:
    """An InstructBLIP with a T5, its two tokenizers and its image processor."""
    torch.manual_seed(seed)
    words = tokenizer(image=True)
    qformer = BertTokenizerFast(
        vocab={word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    )
    text = T5Config(
        vocab_size=len(words), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, pad_token_id=0,
        eos_token_id=words.eos_token_id, decoder_start_token_id=0,
    )  # fmt: skip
    config = InstructBlipConfig(
        vision_config={"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                       "image_size": 28, "patch_size": 14, "initializer_range": 0.02},
        qformer_config={"vocab_size": len(qformer), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                        "intermediate_size": 16, "cross_attention_frequency": 1, "encoder_hidden_size": 16},
        text_config=text.to_dict(), num_query_tokens=2,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    model = InstructBlipForConditionalGeneration(config)
    torch.manual_seed(seed)
    for weight in model.parameters():
        if weight.ndim > 1:  # large enough that what is seen changes what is said
            torch.nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
    model.save_pretrained(folder)
    pictures = BlipImageProcessor(size={"height": 28, "width": 28})
    InstructBlipProcessor(pictures, words, qformer, num_query_tokens=2).save_pretrained(folder)
    return folder
