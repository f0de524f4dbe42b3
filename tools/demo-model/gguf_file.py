"""Writes and reads the part of GGUF v3 the demo model needs: F32 and Q8_0 tensors, plain and array keys."""
import struct

import numpy as np

MAGIC, VERSION, ALIGN = b"GGUF", 3, 32
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
PACK = {0: "<B", 1: "<b", 2: "<H", 3: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<?", 10: "<Q", 11: "<q", 12: "<d"}
TENSOR_F32, TENSOR_Q8_0 = 0, 8
BLOCK = 32  # weights of one Q8_0 block: a float16 scale, then 32 signed bytes
Q8_0 = np.dtype([("scale", "<f2"), ("q", "i1", BLOCK)])


def quantize(x):
    """float32 [rows][cols] to Q8_0: scale = largest magnitude / 127, weights rounded to the nearest, halves to even."""
    blocks = np.ascontiguousarray(x, np.float32).reshape(-1, BLOCK)
    scale = np.abs(blocks).max(1) / np.float32(127)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    out = np.empty(len(blocks), Q8_0)
    out["scale"], out["q"] = scale, np.rint(blocks * inverse[:, None])
    return out


def dequantize(blocks, shape):
    """Q8_0 blocks to float32 of the given shape."""
    return (blocks["scale"].astype(np.float32)[:, None] * blocks["q"]).reshape(shape)


def _string(s):
    raw = s.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(kind, v):
    return _string(v) if kind == STRING else struct.pack(PACK[kind], v)


def _key(name, kind, value):
    """One key; an array is written as kind (ARRAY, element kind)."""
    if isinstance(kind, tuple):
        head = struct.pack("<IIQ", ARRAY, kind[1], len(value))
        return _string(name) + head + b"".join(_value(kind[1], v) for v in value)
    return _string(name) + struct.pack("<I", kind) + _value(kind, value)


def write(path, keys, tensors):
    """keys: [(name, kind, value)]; tensors: [(name, float32 array)]. Matrices become Q8_0, vectors stay F32."""
    head = MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(keys)) + b"".join(_key(*k) for k in keys)
    data, infos = b"", b""
    for name, x in tensors:
        kind = TENSOR_Q8_0 if x.ndim == 2 else TENSOR_F32
        dims = x.shape[::-1]  # GGUF names the fastest dimension first
        infos += _string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, len(data))
        raw = quantize(x).tobytes() if x.ndim == 2 else x.astype("<f4").tobytes()
        data += raw + bytes(-len(raw) % ALIGN)
    with open(path, "wb") as f:
        f.write(head + infos + bytes(-len(head + infos) % ALIGN) + data)


class _Reader:
    """A position in the bytes of a file."""

    def __init__(self, raw):
        self.raw, self.at = raw, 0

    def take(self, fmt):
        v = struct.unpack_from(fmt, self.raw, self.at)[0]
        self.at += struct.calcsize(fmt)
        return v

    def string(self):
        n = self.take("<Q")
        self.at += n
        return self.raw[self.at - n:self.at].decode()

    def value(self, kind):
        if kind == ARRAY:
            kind, n = self.take("<I"), self.take("<Q")
            return [self.value(kind) for _ in range(n)]
        return self.string() if kind == STRING else self.take(PACK[kind])


def read(path):
    """Returns (keys, tensors): {name: value} and {name: float32 array}, Q8_0 dequantized. Trusts the file: it is ours."""
    with open(path, "rb") as f:
        r = _Reader(f.read())
    if r.raw[:4] != MAGIC or struct.unpack_from("<I", r.raw, 4)[0] != VERSION:
        raise ValueError(f"{path}: not a GGUF v3 file")
    r.at = 8
    n_tensors, n_keys = r.take("<Q"), r.take("<Q")
    keys = {}
    for _ in range(n_keys):
        name = r.string()
        keys[name] = r.value(r.take("<I"))
    infos = []
    for _ in range(n_tensors):
        name = r.string()
        dims = [r.take("<Q") for _ in range(r.take("<I"))]
        infos.append((name, dims[::-1], r.take("<I"), r.take("<Q")))
    base = r.at + -r.at % ALIGN
    tensors = {}
    for name, shape, kind, off in infos:
        n = int(np.prod(shape))
        if kind == TENSOR_F32:
            tensors[name] = np.frombuffer(r.raw, "<f4", n, base + off).reshape(shape)
        elif kind == TENSOR_Q8_0:
            tensors[name] = dequantize(np.frombuffer(r.raw, Q8_0, n // BLOCK, base + off), shape)
        else:
            raise ValueError(f"{name}: tensor type {kind} is none of ours")
    return keys, tensors
