"""Adds string keys to a GGUF file, or splits it in several: enough of the format to find the parts of its head."""
import struct

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def _string(b, at):
    n, = struct.unpack_from('<Q', b, at)
    return at + 8 + n


def _value(b, at, kind):
    if kind == 8:
        return _string(b, at)
    if kind != 9:
        return at + SIZES[kind]
    elem, n = struct.unpack_from('<IQ', b, at)
    at += 12
    if elem != 8:
        return at + n * SIZES[elem]
    for _ in range(n):
        at = _string(b, at)
    return at


def _head(data):
    """(where the keys end, [(entry of a tensor without its offset, offset)], where the data begin); no general.alignment."""
    n_tensors, n_keys = struct.unpack_from('<QQ', data, 8)
    at = 24
    for _ in range(n_keys):
        at = _string(data, at)
        at = _value(data, at + 4, struct.unpack_from('<I', data, at)[0])
    end_keys, tensors = at, []
    for _ in range(n_tensors):
        start = at
        at = _string(data, at)
        at += 4 + 8 * struct.unpack_from('<I', data, at)[0] + 4
        tensors.append((data[start:at], struct.unpack_from('<Q', data, at)[0]))
        at += 8
    return end_keys, tensors, at + -at % 32


def add_strings(data, **keys):
    """The bytes of the file with more keys (a double underscore in a name stands for a dot)."""
    n_tensors, n_keys = struct.unpack_from('<QQ', data, 8)
    end_keys, tensors, start = _head(data)
    more = b''
    for name, text in keys.items():
        name, text = name.replace('__', '.').encode(), text.encode()
        more += struct.pack('<Q', len(name)) + name + struct.pack('<IQ', 8, len(text)) + text
    entries = b''.join(entry + struct.pack('<Q', offset) for entry, offset in tensors)
    head = data[:8] + struct.pack('<QQ', n_tensors, n_keys + len(keys)) + data[24:end_keys] + more + entries
    return head + bytes(-len(head) % 32) + data[start:]


def split(data, count):
    """The bytes of `count` files that are one model, as gguf-split makes them: the keys in the first, tensors in all."""
    n_keys, = struct.unpack_from('<Q', data, 16)
    end_keys, tensors, start = _head(data)
    ends = sorted(offset for _, offset in tensors)[1:] + [len(data) - start]
    parts = []
    for no in range(count):
        keys = b''.join(struct.pack('<Q', len(n)) + n + struct.pack('<I', kind) + value for n, kind, value in (
            (b'split.no', 2, struct.pack('<H', no)), (b'split.count', 2, struct.pack('<H', count)),
            (b'split.tensors.count', 5, struct.pack('<i', len(tensors)))))
        entries, body = b'', b''
        mine = tensors[len(tensors) * no // count:len(tensors) * (no + 1) // count]
        for entry, offset in mine:
            entries += entry + struct.pack('<Q', len(body))
            end = min(e for e in ends if e > offset)
            body += data[start + offset:start + end]
            body += bytes(-len(body) % 32)
        own = data[24:end_keys] if no == 0 else b''
        head = data[:8] + struct.pack('<QQ', len(mine), 3 + (n_keys if no == 0 else 0)) + own + keys + entries
        parts.append(head + bytes(-len(head) % 32) + body)
    return parts
