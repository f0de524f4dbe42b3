"""Trains the demo model. Writes tokenizer.json and best.pt (weights with the lowest validation loss) to --out.

Each row of a batch is one whole story from <s> to </s>, as at inference; rows of similar length go together.
Matrices are trained with Muon, the rest with AdamW; validation is measured on a running average of the weights.
"""
import argparse
import json
import math
import os
import random
import time

import torch
import torch.nn.functional as F

import corpus
import spm
from model import CONFIG, Llama


def batches(rows, tokens, rng):
    """Random batches of rows of similar length, about `tokens` tokens each, padded with -1.

    Lengths are rounded up to 32: the matrix library compiles one kernel per shape, so there should be few shapes.
    """
    width = lambda row: -(-(len(row) - 1) // 32) * 32 + 1
    out, batch = [], []
    for _, row in sorted(((len(r) * rng.uniform(0.95, 1.05), r) for r in rows), key=lambda pair: pair[0]):
        widest = max(map(width, batch + [row]))
        if (len(batch) + 1) * widest > tokens and batch:
            out.append(batch)
            batch = []
        batch.append(row)
    out.append(batch)
    rng.shuffle(out)
    for b in out:
        t = max(map(width, b))
        yield torch.tensor([r + [-1] * (t - len(r)) for r in b])


def loss_of(model, rows, reduction="mean"):
    """Cross entropy of the next token in nats; padding does not count."""
    logits = model(rows[:, :-1].clamp(min=0))
    return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), ignore_index=-1, reduction=reduction)


def validate(model, rows, n_bytes):
    """(nats per token, bits per byte) over whole held-out stories, </s> included."""
    model.eval()
    with torch.no_grad():
        total = sum(loss_of(model, b, "sum").item() for b in batches(rows, 4096, random.Random(0)))
    model.train()
    n_tokens = sum(len(r) - 1 for r in rows)
    return total / n_tokens, total / math.log(2) / n_bytes


def orthogonal(g, steps=5):
    """Newton-Schulz: g with its singular values pushed towards 1 (Jordan et al. 2024, Muon)."""
    x = g.T if g.shape[0] > g.shape[1] else g
    x = (x / (x.norm() + 1e-7)).bfloat16()
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.T if g.shape[0] > g.shape[1] else x).float()


class Muon(torch.optim.Optimizer):
    """Momentum whose step is made orthogonal; for hidden matrices only."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - group["momentum"])
                step = orthogonal(p.grad.lerp(m, group["momentum"]))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(step, alpha=-group["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)


def optimizers(model, args):
    """Muon for the matrices of the blocks, AdamW for embedding and norms."""
    hidden = [p for n, p in model.named_parameters() if n.startswith("blocks.") and p.ndim == 2]
    norms = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": [model.token_embd.weight], "weight_decay": args.embd_decay}, {"params": norms, "weight_decay": 0.0}]
    return [Muon(hidden, args.lr, weight_decay=args.decay),
            torch.optim.AdamW(groups, lr=args.embd_lr, betas=(0.9, 0.98))]


def rate(step, steps, warmup=100):
    """Share of the full learning rate: linear warm-up, cosine to 2 %."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.02 + 0.49 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def prepare(args):
    """Trains the vocabulary, encodes both parts; returns (train rows, valid rows, bytes of valid)."""
    train, valid = corpus.load(args.data)
    vocab = spm.train(train, CONFIG["vocab"])
    with open(os.path.join(args.out, "tokenizer.json"), "w", encoding="utf-8") as f:
        json.dump(vocab, f)
    tok = spm.Tokenizer(vocab)
    rows = [[tok.encode(s) + [spm.EOS] for s in part] for part in (train, valid)]
    longest = CONFIG["context"] + 1
    keep = [i for i, r in enumerate(rows[1]) if len(r) <= longest]  # bits per byte needs whole stories
    n_bytes = sum(len(valid[i].encode()) for i in keep)
    return [r[:longest] for r in rows[0]], [rows[1][i] for i in keep], n_bytes


def run(args):
    """The training loop."""
    rng = random.Random(args.seed)
    torch.manual_seed(args.seed)
    rows, valid, n_bytes = prepare(args)
    model, average = Llama(CONFIG, args.dropout, torch.bfloat16), Llama(CONFIG, dtype=torch.bfloat16)
    average.load_state_dict(model.state_dict())
    opts = optimizers(model, args)
    full = [[g["lr"] for g in o.param_groups] for o in opts]
    steps = args.epochs * len(list(batches(rows, args.batch, random.Random(0))))
    print(f"parameters {sum(p.numel() for p in model.parameters())}, stories {len(rows)}+{len(valid)}, "
          f"tokens {sum(map(len, rows))}+{sum(map(len, valid))}, steps {steps}", flush=True)
    step, best, start = 0, math.inf, time.time()
    for epoch in range(args.epochs):
        losses = []
        model.drop.refill(model.dtype)
        for batch in batches(rows, args.batch, rng):
            for o, lrs in zip(opts, full):
                for g, lr in zip(o.param_groups, lrs):
                    g["lr"] = lr * rate(step, steps)
            loss = loss_of(model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for o in opts:
                o.step()
            model.zero_grad(set_to_none=True)
            follow(average, model, min(args.average, (step + 1) / (step + 10)))
            losses.append(loss.item())
            step += 1
        nats, bpb = validate(average, valid, n_bytes)
        print(f"epoch {epoch + 1} train {sum(losses) / len(losses):.4f} valid {nats:.4f} nats/token {bpb:.4f} bits/byte "
              f"{time.time() - start:.0f} s", flush=True)
        if nats < best:
            best = nats
            torch.save(average.state_dict(), os.path.join(args.out, "best.pt"))


@torch.no_grad()
def follow(average, model, keep):
    """Moves the running average of the weights towards the model."""
    for a, p in zip(average.parameters(), model.parameters()):
        a.lerp_(p, 1 - keep)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    corpus.add_data_argument(p)
    p.add_argument("--out", required=True, help="folder for tokenizer.json and best.pt, made if missing")
    p.add_argument("--epochs", type=int, default=16, help="passes over the text (default 16)")
    p.add_argument("--batch", type=int, default=4096, help="tokens per step (default 4096)")
    p.add_argument("--lr", type=float, default=0.02, help="Muon's rate (default 0.02)")
    p.add_argument("--embd-lr", type=float, default=0.004, help="AdamW's rate (default 0.004)")
    p.add_argument("--decay", type=float, default=0.1, help="weight decay of the matrices (default 0.1)")
    p.add_argument("--embd-decay", type=float, default=0.1, help="weight decay of the embedding (default 0.1)")
    p.add_argument("--dropout", type=float, default=0.15, help="share of values dropped (default 0.15)")
    p.add_argument("--average", type=float, default=0.995, help="decay of the weight average (default 0.995)")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    os.makedirs(args.out, exist_ok=True)
    torch.set_num_threads(args.threads)
    run(args)


if __name__ == "__main__":
    main()
