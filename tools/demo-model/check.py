"""Proves demo-model.gguf: reads it back with a reader and a forward pass of its own (numpy, float64, no torch).

Prints the loss over the held-out stories and some text; --write makes expected.json, the golden values for the engine.
"""
import argparse
import json
import math
import os

import numpy as np

import corpus
import gguf_file
import spm

HERE = os.path.dirname(os.path.abspath(__file__))
PROMPTS = ["Once upon a time", "One day, Lily and Ben went to the park", "The big dog was sad because", ""]
N_GREEDY = 64
N_NLL_TEXTS = 4
NOTE = ("float64 results of the dequantized Q8_0 weights. cases: ids start with <s>; greedy stops after id 2 (</s>) or 64 tokens; "
        "margins = best minus second-best logit at each step; text = the pieces of the greedy ids joined, nothing stripped; "
        "logits (first case only) follow the last id. nll: mean over all ids after <s>, no </s> at the end. "
        "validation: every held-out story that fits the context, </s> included.")


class Model:
    """A Llama in float64, straight from its definition: no cache, no batch."""

    def __init__(self, path):
        self.keys, tensors = gguf_file.read(path)
        self.w = {n: t.astype(np.float64) for n, t in tensors.items()}
        key = lambda name: self.keys["llama." + name]
        self.layers, self.heads, self.kv_heads = (key(n) for n in ("block_count", "attention.head_count", "attention.head_count_kv"))
        self.eps, self.context = key("attention.layer_norm_rms_epsilon"), key("context_length")
        half = key("rope.dimension_count") // 2
        self.freq = float(key("rope.freq_base")) ** (-np.arange(half) / half)

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.w[name + ".weight"]

    def rotate(self, x):
        """Turns the pairs (0,1), (2,3), ... of every head; x is [token][head][head_dim]."""
        angle = (np.arange(len(x))[:, None] * self.freq)[:, None, :]
        out = np.empty_like(x)
        out[..., 0::2] = x[..., 0::2] * np.cos(angle) - x[..., 1::2] * np.sin(angle)
        out[..., 1::2] = x[..., 0::2] * np.sin(angle) + x[..., 1::2] * np.cos(angle)
        return out

    def attend(self, x, blk):
        t = len(x)
        heads = lambda part, n: (x @ self.w[f"{blk}.attn_{part}.weight"].T).reshape(t, n, -1)
        q, k, v = self.rotate(heads("q", self.heads)), self.rotate(heads("k", self.kv_heads)), heads("v", self.kv_heads)
        out, group = np.empty_like(q), self.heads // self.kv_heads
        for h in range(self.heads):
            s = q[:, h] @ k[:, h // group].T / math.sqrt(q.shape[-1])
            s = np.where(np.tri(t, dtype=bool), s, -np.inf)
            p = np.exp(s - s.max(-1, keepdims=True))
            out[:, h] = p / p.sum(-1, keepdims=True) @ v[:, h // group]
        return out.reshape(t, -1) @ self.w[f"{blk}.attn_output.weight"].T

    def feed_forward(self, x, blk):
        gate, up = x @ self.w[f"{blk}.ffn_gate.weight"].T, x @ self.w[f"{blk}.ffn_up.weight"].T
        return (gate / (1 + np.exp(-gate)) * up) @ self.w[f"{blk}.ffn_down.weight"].T

    def logits(self, ids):
        """[token][vocab]: what follows each id."""
        x = self.w["token_embd.weight"][ids]
        for i in range(self.layers):
            blk = f"blk.{i}"
            x = x + self.attend(self.norm(x, f"{blk}.attn_norm"), blk)
            x = x + self.feed_forward(self.norm(x, f"{blk}.ffn_norm"), blk)
        return self.norm(x, "output_norm") @ self.w["token_embd.weight"].T

    def nll(self, ids):
        """Negative log-likelihood of each id after the first, in nats."""
        z = self.logits(ids[:-1])
        z = z - z.max(-1, keepdims=True)
        return np.log(np.exp(z).sum(-1)) - z[np.arange(len(z)), ids[1:]]


def continue_text(model, ids, n, choose):
    """Up to n more ids; choose(logits) gives the next one. Returns (ids, margins)."""
    out, margins = [], []
    while len(out) < n and (not out or out[-1] != spm.EOS):
        z = model.logits(ids + out)[-1]
        second, best = np.partition(z, -2)[-2:]
        margins.append(round(float(best - second), 6))
        out.append(int(choose(z)))
    return out, margins


def sampler(temperature, seed):
    """Plain sampling at a temperature."""
    rng = np.random.default_rng(seed)

    def choose(z):
        p = np.exp((z - z.max()) / temperature)
        return rng.choice(len(p), p=p / p.sum())
    return choose


def cases(model, tok):
    """The golden continuations."""
    out = []
    for i, prompt in enumerate(PROMPTS):
        ids = tok.encode(prompt)
        greedy, margins = continue_text(model, ids, N_GREEDY, np.argmax)
        case = {"prompt": prompt, "ids": ids, "greedy": greedy, "margins": margins, "text": tok.decode(greedy)}
        if i == 0:
            case["logits"] = [round(float(z), 6) for z in model.logits(ids)[-1]]
        out.append(case)
    return out


def validation(model, tok, stories):
    """Mean loss over the held-out stories, </s> included."""
    total, n_tokens, n_bytes, n_stories = 0.0, 0, 0, 0
    for s in stories:
        ids = tok.encode(s) + [spm.EOS]
        if len(ids) <= model.context + 1:
            total, n_tokens = total + model.nll(ids).sum(), n_tokens + len(ids) - 1
            n_bytes, n_stories = n_bytes + len(s.encode()), n_stories + 1
    return {"stories": n_stories, "tokens": n_tokens, "bytes": n_bytes, "mean_nll": round(total / n_tokens, 6),
            "bits_per_byte": round(total / math.log(2) / n_bytes, 6)}


def write_expected(path, model, tok, stories):
    """expected.json, one value per line where that helps a reader of a diff."""
    texts = sorted(stories, key=len)[:N_NLL_TEXTS]
    nll = [{"text": t, "ids": tok.encode(t), "mean_nll": round(float(model.nll(tok.encode(t)).mean()), 6)} for t in texts]
    parts = {"note": NOTE, "validation": validation(model, tok, stories), "cases": cases(model, tok), "nll": nll}
    with open(path, "w", encoding="utf-8") as f:
        f.write("{\n" + ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in parts.items()) + "\n}\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    corpus.add_data_argument(p)
    p.add_argument("--model", default=os.path.join(HERE, "demo-model.gguf"), help="file to check (default: beside this script)")
    p.add_argument("--write", action="store_true", help="write expected.json beside this script")
    p.add_argument("--prompt", default="Once upon a time", help="start of the printed samples")
    p.add_argument("--tokens", type=int, default=250, help="length of the printed samples (default 250)")
    p.add_argument("--seeds", type=int, default=2, help="number of samples at temperature 0.8 (default 2)")
    args = p.parse_args()
    model = Model(args.model)
    tok = spm.Tokenizer(spm.from_keys(model.keys))
    stories = corpus.load(args.data)[1]
    print(json.dumps(validation(model, tok, stories)))
    ids = tok.encode(args.prompt)
    for name, choose in [("greedy", np.argmax)] + [(f"temperature 0.8, seed {s}", sampler(0.8, s)) for s in range(args.seeds)]:
        print(f"--- {name}\n{args.prompt}{tok.decode(continue_text(model, ids, args.tokens, choose)[0])}")
    if args.write:
        write_expected(os.path.join(HERE, "expected.json"), model, tok, stories)


if __name__ == "__main__":
    main()
