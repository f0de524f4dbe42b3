"""A SentencePiece-type BPE vocabulary with byte fallback: training, encoding, decoding.

Encoding is the rule of GGUF's tokenizer model "llama": a space is written U+2581, one is put before the text,
and the neighbouring pair whose joined piece has the highest score is merged first, the leftmost of equals;
characters that are no piece become byte tokens. Training and inference use the same function.
No piece holds U+2581 except in front and none holds a newline, so text may be cut there and words cached.
"""
import collections
import re

SPACE = "\u2581"
UNK, BOS, EOS, BYTE0 = 0, 1, 2, 3
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6  # tokenizer.ggml.token_type
WORD = re.compile(f"{SPACE}?[^{SPACE}\n]+|{SPACE}|\n")
CHUNK = re.compile(f"{SPACE}?[A-Za-z]+|'(?:s|t|m|d|ll|re|ve)(?![A-Za-z])|{SPACE}?[^A-Za-z{SPACE}\n]+|{SPACE}")


def escape(text):
    """Text as the vocabulary sees it."""
    return (SPACE + text.replace(" ", SPACE)) if text else ""


def _pairs_of(chunk):
    return list(zip(chunk, chunk[1:]))


def _merge(chunk, pair):
    """chunk with every occurrence of the pair joined, from the left."""
    out, i = [], 0
    while i < len(chunk):
        if i + 1 < len(chunk) and (chunk[i], chunk[i + 1]) == pair:
            out.append(chunk[i] + chunk[i + 1])
            i += 2
        else:
            out.append(chunk[i])
            i += 1
    return out


def train_merges(texts, n_merges):
    """Classic BPE over letter runs and punctuation runs; returns the joined pieces, most useful first."""
    counts = collections.Counter(c for t in texts for c in CHUNK.findall(escape(t)))
    chunks = [[list(c), n] for c, n in sorted(counts.items())]
    total, where = collections.Counter(), collections.defaultdict(set)
    for i, (chunk, n) in enumerate(chunks):
        for p in _pairs_of(chunk):
            total[p] += n
            where[p].add(i)
    pieces = []
    while len(pieces) < n_merges:
        best = max(total, key=lambda p: (total[p], p))
        if "".join(best) not in pieces:
            pieces.append("".join(best))
        for i in where.pop(best):
            chunk, n = chunks[i]
            for p in _pairs_of(chunk):
                total[p] -= n
            chunks[i][0] = chunk = _merge(chunk, best)
            for p in _pairs_of(chunk):
                total[p] += n
                where[p].add(i)
        del total[best]
    return pieces


def train(texts, size):
    """A vocabulary of `size` entries: {tokens, scores, types}. Single characters: the printable ASCII seen."""
    chars = sorted({c for t in texts for c in t if " " < c < "\x7f"} | {SPACE})
    fixed = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    pieces = train_merges(texts, size - len(fixed) - len(chars))
    return {
        "tokens": fixed + pieces + chars,
        "scores": [0.0] * len(fixed) + [-float(i) for i in range(len(pieces) + len(chars))],
        "types": [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * (len(pieces) + len(chars)),
    }


def from_keys(keys):
    """The vocabulary in the keys of a GGUF file."""
    names = {"tokens": "tokens", "scores": "scores", "types": "token_type"}
    return {ours: keys["tokenizer.ggml." + theirs] for ours, theirs in names.items()}


class Tokenizer:
    """Encodes and decodes with a vocabulary as `train` or a GGUF file gives it."""

    def __init__(self, vocab):
        self.tokens, self.types = vocab["tokens"], vocab["types"]
        self.ids = {t: i for i, t in enumerate(self.tokens)}
        self.scores = vocab["scores"]
        self.cache = {}

    def merge(self, word):
        """Ids of a text that is escaped already, by the rule alone; takes time in the square of its length."""
        parts = list(word)
        while True:
            best, at = None, -1
            for i in range(len(parts) - 1):
                piece = self.ids.get(parts[i] + parts[i + 1])
                if piece is not None and (best is None or self.scores[piece] > best):
                    best, at = self.scores[piece], i
            if at < 0:
                break
            parts[at:at + 2] = [parts[at] + parts[at + 1]]
        out = []
        for p in parts:
            out += [self.ids[p]] if p in self.ids else [BYTE0 + b for b in p.encode()]
        return out

    def encode(self, text, bos=True):
        """Token ids of a text; special tokens inside the text are not recognized."""
        out = [BOS] if bos else []
        for word in WORD.findall(escape(text)):
            if word not in self.cache:
                self.cache[word] = self.merge(word)
            out += self.cache[word]
        return out

    def decode(self, ids):
        """Text of ids; control tokens are left out, the space in front of the first piece stays."""
        raw = b""
        for i in ids:
            if self.types[i] == BYTE:
                raw += bytes([i - BYTE0])
            elif self.types[i] == NORMAL:
                raw += self.tokens[i].replace(SPACE, " ").encode()
        return raw.decode("utf-8", "replace")
