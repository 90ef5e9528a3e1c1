"""Tiny configurations of other packages' models, for tests that skip where those are missing."""

TEXT = {"vocab_size": 37, "hidden_size": 24, "num_hidden_layers": 2, "intermediate_size": 31}
HEADS = {**TEXT, "num_attention_heads": 4, "num_key_value_heads": 2}
TINY = {
    "GPT2LMHeadModel": {"vocab_size": 37, "n_embd": 24, "n_layer": 2, "n_head": 2},
    "BertForSequenceClassification": {**TEXT, "num_attention_heads": 2},
    "LlamaForCausalLM": HEADS,
    "Qwen3ForCausalLM": {**HEADS, "head_dim": 6},
    "ViTForImageClassification": {
        **{k: v for k, v in TEXT.items() if k != "vocab_size"},
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    },
    "T5ForConditionalGeneration": {
        "vocab_size": 37,
        "d_model": 24,
        "d_kv": 12,
        "num_layers": 2,
        "num_heads": 2,
        "d_ff": 31,
    },
}
