"""The network: a Llama as GGUF describes it, in torch. RoPE turns neighbouring pairs, the head is the embedding."""
import math

import torch
import torch.nn.functional as F
from torch import nn

CONFIG = {"vocab": 2048, "dim": 256, "layers": 5, "heads": 8, "kv_heads": 4, "ffn": 512,
          "context": 512, "eps": 1e-5, "rope_base": 10000.0}


class Norm(nn.Module):
    """RMS norm; the result has the type the matrices are multiplied in."""

    def __init__(self, dim, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x, dtype):
        scale = torch.rsqrt((x * x).mean(-1, keepdim=True) + self.eps)
        return (x * scale).to(dtype) * self.weight.to(dtype)


class Dropout(nn.Module):
    """Dropout whose masks are windows of one drawn pool: drawing anew took a seventh of the training time."""

    POOL = 1 << 24

    def __init__(self, rate):
        super().__init__()
        self.rate, self.pool = rate, None

    def refill(self, dtype):
        """Draws the pool; once per epoch is enough."""
        self.pool = (torch.rand(self.POOL) >= self.rate).to(dtype) / (1 - self.rate)

    def forward(self, x):
        if not self.training or self.rate == 0:
            return x
        at = torch.randint(self.POOL - x.numel(), ()).item()
        return x * self.pool[at:at + x.numel()].view(x.shape)


def rope_table(cfg):
    """cos and sin, [context][head_dim/2]."""
    half = cfg["dim"] // cfg["heads"] // 2
    freq = cfg["rope_base"] ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(cfg["context"], dtype=torch.float64)[:, None] * freq
    return angle.cos().float(), angle.sin().float()


def rotate(x, cos, sin):
    """Turns the pairs (0,1), (2,3), ... of each head; x is [batch][token][head][head_dim]."""
    a, b = x[..., 0::2], x[..., 1::2]
    cos, sin = cos[:, None, :], sin[:, None, :]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def linear(x, layer):
    """x times the layer's matrix, in the type of x."""
    return F.linear(x, layer.weight.to(x.dtype))


class Block(nn.Module):
    """Attention and SwiGLU, each behind a norm and added to the stream."""

    def __init__(self, cfg, dropout):
        super().__init__()
        d, h, kv = cfg["dim"], cfg["heads"], cfg["kv_heads"]
        self.h, self.kv, self.hd, self.drop = h, kv, d // h, dropout
        self.attn_norm, self.ffn_norm = Norm(d, cfg["eps"]), Norm(d, cfg["eps"])
        self.attn_q = nn.Linear(d, d, bias=False)
        self.attn_k = nn.Linear(d, kv * self.hd, bias=False)
        self.attn_v = nn.Linear(d, kv * self.hd, bias=False)
        self.attn_output = nn.Linear(d, d, bias=False)
        self.ffn_gate = nn.Linear(d, cfg["ffn"], bias=False)
        self.ffn_up = nn.Linear(d, cfg["ffn"], bias=False)
        self.ffn_down = nn.Linear(cfg["ffn"], d, bias=False)

    def attend(self, x, cos, sin, mask):
        """Causal attention; the query heads that share a kv head are stacked as more rows of one product."""
        b, t, d = x.shape
        group = self.h // self.kv
        q = rotate(linear(x, self.attn_q).view(b, t, self.h, self.hd), cos, sin) * (1 / math.sqrt(self.hd))
        k = rotate(linear(x, self.attn_k).view(b, t, self.kv, self.hd), cos, sin)
        v = linear(x, self.attn_v).view(b, t, self.kv, self.hd)
        q = q.view(b, t, self.kv, group, self.hd).permute(0, 2, 3, 1, 4).reshape(b * self.kv, group * t, self.hd)
        k = k.permute(0, 2, 3, 1).reshape(b * self.kv, self.hd, t)
        v = v.permute(0, 2, 1, 3).reshape(b * self.kv, t, self.hd)
        p = (torch.bmm(q, k).view(-1, group, t, t) + mask).softmax(-1).view(b * self.kv, group * t, t)
        y = torch.bmm(p, v).view(b, self.kv, group, t, self.hd)
        return linear(y.permute(0, 3, 1, 2, 4).reshape(b, t, d), self.attn_output)

    def forward(self, x, cos, sin, mask):
        dtype = cos.dtype
        x = x + self.drop(self.attend(self.attn_norm(x, dtype), cos, sin, mask))
        y = self.ffn_norm(x, dtype)
        return x + self.drop(linear(self.drop(F.silu(linear(y, self.ffn_gate)) * linear(y, self.ffn_up)), self.ffn_down))


class Llama(nn.Module):
    """Parameter names are those of GGUF once `blocks.N` is written `blk.N`.

    Weights, stream and losses are float32; `dtype` is what the blocks compute in (bfloat16 is ten times faster
    where the CPU has matrix units, and training does not mind).
    """

    def __init__(self, cfg, dropout=0.0, dtype=torch.float32):
        super().__init__()
        self.cfg, self.dtype = cfg, dtype
        self.drop = Dropout(dropout)
        self.token_embd = nn.Embedding(cfg["vocab"], cfg["dim"])
        self.blocks = nn.ModuleList(Block(cfg, self.drop) for _ in range(cfg["layers"]))
        self.output_norm = Norm(cfg["dim"], cfg["eps"])
        cos, sin = rope_table(cfg)
        self.register_buffer("cos", cos.to(dtype), persistent=False)
        self.register_buffer("sin", sin.to(dtype), persistent=False)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                last = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(p, 0, 0.02 / (math.sqrt(2 * cfg["layers"]) if last else 1))

    def forward(self, ids):
        """ids [batch][tokens] from position 0; returns logits [batch][tokens][vocab]."""
        t = ids.shape[1]
        mask = torch.full((t, t), -1e30, dtype=self.dtype).triu(1)
        x = self.drop(self.token_embd(ids))
        for block in self.blocks:
            x = block(x, self.cos[:t], self.sin[:t], mask)
        return F.linear(self.output_norm(x, self.dtype), self.token_embd.weight.to(self.dtype)).float()
