"""Adds string keys to a GGUF file: enough of the format to find the ends of its head."""
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


def add_strings(data, **keys):
    """The bytes of the file with more keys (a double underscore in a name stands for a dot); no general.alignment in it."""
    n_tensors, n_keys = struct.unpack_from('<QQ', data, 8)
    at = 24
    for _ in range(n_keys):
        at = _string(data, at)
        at = _value(data, at + 4, struct.unpack_from('<I', data, at)[0])
    end_keys = at
    for _ in range(n_tensors):
        at = _string(data, at)
        at += 4 + 8 * struct.unpack_from('<I', data, at)[0] + 12
    more = b''
    for name, text in keys.items():
        name, text = name.replace('__', '.').encode(), text.encode()
        more += struct.pack('<Q', len(name)) + name + struct.pack('<IQ', 8, len(text)) + text
    head = data[:8] + struct.pack('<QQ', n_tensors, n_keys + len(keys)) + data[24:end_keys] + more + data[end_keys:at]
    return head + bytes(-len(head) % 32) + data[at + -at % 32:]
