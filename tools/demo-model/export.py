"""Turns what train.py wrote (tokenizer.json, best.pt) into demo-model.gguf with Q8_0 matrices."""
import argparse
import json
import os

import torch

import gguf_file
from gguf_file import BOOL, F32, I32, STRING, U32, ARRAY
from model import CONFIG
from spm import BOS, EOS, UNK

HERE = os.path.dirname(os.path.abspath(__file__))
BLOCK_ORDER = ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"]
FILE_TYPE_Q8_0 = 7


def architecture_keys(cfg):
    """The keys that say what network this is."""
    return [
        ("general.architecture", STRING, "llama"),
        ("general.name", STRING, "SPARK demo (tiny stories)"),
        ("general.description", STRING, "A very small teller of children's stories, trained from scratch on a 2 MB sample "
                                        "of TinyStories. For trying the runtime without a download; it knows nothing else."),
        ("general.license", STRING, "CDLA-Sharing-1.0"),
        ("general.quantization_version", U32, 2),
        ("general.file_type", U32, FILE_TYPE_Q8_0),
        ("llama.vocab_size", U32, cfg["vocab"]),
        ("llama.context_length", U32, cfg["context"]),
        ("llama.embedding_length", U32, cfg["dim"]),
        ("llama.block_count", U32, cfg["layers"]),
        ("llama.feed_forward_length", U32, cfg["ffn"]),
        ("llama.attention.head_count", U32, cfg["heads"]),
        ("llama.attention.head_count_kv", U32, cfg["kv_heads"]),
        ("llama.attention.layer_norm_rms_epsilon", F32, cfg["eps"]),
        ("llama.rope.dimension_count", U32, cfg["dim"] // cfg["heads"]),
        ("llama.rope.freq_base", F32, cfg["rope_base"]),
    ]


def tokenizer_keys(vocab):
    """The keys of a SentencePiece-type vocabulary."""
    return [
        ("tokenizer.ggml.model", STRING, "llama"),
        ("tokenizer.ggml.tokens", (ARRAY, STRING), vocab["tokens"]),
        ("tokenizer.ggml.scores", (ARRAY, F32), vocab["scores"]),
        ("tokenizer.ggml.token_type", (ARRAY, I32), vocab["types"]),
        ("tokenizer.ggml.bos_token_id", U32, BOS),
        ("tokenizer.ggml.eos_token_id", U32, EOS),
        ("tokenizer.ggml.unknown_token_id", U32, UNK),
        ("tokenizer.ggml.add_bos_token", BOOL, True),
        ("tokenizer.ggml.add_eos_token", BOOL, False),
        ("tokenizer.ggml.add_space_prefix", BOOL, True),
    ]


def tensors_of(weights, cfg):
    """[(GGUF name, array)] in the order of use; the head is the embedding, so there is no output.weight."""
    pick = lambda name: weights[name].float().numpy()
    out = [("token_embd.weight", pick("token_embd.weight"))]
    for i in range(cfg["layers"]):
        out += [(f"blk.{i}.{part}.weight", pick(f"blocks.{i}.{part}.weight")) for part in BLOCK_ORDER]
    return out + [("output_norm.weight", pick("output_norm.weight"))]


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("run", help="folder that train.py wrote")
    p.add_argument("--out", default=os.path.join(HERE, "demo-model.gguf"), help="file to write (default: beside this script)")
    args = p.parse_args()
    with open(os.path.join(args.run, "tokenizer.json"), encoding="utf-8") as f:
        vocab = json.load(f)
    weights = torch.load(os.path.join(args.run, "best.pt"), map_location="cpu")
    gguf_file.write(args.out, architecture_keys(CONFIG) + tokenizer_keys(vocab), tensors_of(weights, CONFIG))
    print(f"{args.out}: {os.path.getsize(args.out)} bytes")


if __name__ == "__main__":
    main()
