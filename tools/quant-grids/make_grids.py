#!/usr/bin/env python3
"""Writes src/kern/ref/quant_grids.c: the lattice points of the IQ1, IQ2 and IQ3 formats, in our own encoding.

The points are part of the GGUF formats; a reader cannot derive them. Source: ggml (MIT licence), src/ggml-common.h, where
each is an array of 64-bit or 32-bit words with one level a byte, the first element in the lowest byte. Here a point is one
16-bit word with one index into the grid's level table a field (2 bits for 8 elements, 3 bits for 4).

    tools/quant-grids/make_grids.py path/to/ggml-common.h > src/kern/ref/quant_grids.c
"""
import re
import sys

# name in ggml, our name, elements of a point, bits a field, levels
GRIDS = [
    ("iq2xxs_grid", "iq2_xxs", 8, 2, [8, 25, 43]),
    ("iq2xs_grid", "iq2_xs", 8, 2, [8, 25, 43]),
    ("iq2s_grid", "iq2_s", 8, 2, [8, 25, 43]),
    ("iq3xxs_grid", "iq3_xxs", 4, 3, [4, 12, 20, 28, 36, 44, 52, 62]),
    ("iq3s_grid", "iq3_s", 4, 3, [1, 3, 5, 7, 9, 11, 13, 15]),
    ("iq1s_grid", "iq1", 8, 2, [-1, 0, 1]),
]

HEAD = """\
/* quant_grids.c - the lattice points of the IQ1, IQ2 and IQ3 formats. Data only, made by tools/quant-grids/make_grids.py.
 * Source: ggml (MIT licence), src/ggml-common.h. A point is one word, element i in bits [i * bits, (i + 1) * bits). */
#include "kern/ref/quant_internal.h"

/* clang-format off */
"""


def read_grid(text, name):
    found = re.search(r"GGML_TABLE_BEGIN\(uint\d+_t, %s, \w+\)(.*?)GGML_TABLE_END" % name, text, re.S)
    if not found:
        sys.exit(f"no table {name}")
    return [int(word, 16) for word in re.findall(r"0x[0-9a-f]+", found[1])]


def encode(word, n, bits, levels):
    signed = [byte - 256 if byte > 127 else byte for byte in word.to_bytes(n, "little")]
    return sum(levels.index(level) << (i * bits) for i, level in enumerate(signed))


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        text = file.read()
    print(HEAD, end="")
    for source, name, n, bits, levels in GRIDS:
        points = [encode(word, n, bits, levels) for word in read_grid(text, source)]
        print(f"\nconst uint16_t spark__grid_{name}[{len(points)}] = {{")
        for i in range(0, len(points), 14):
            print("    " + ", ".join(f"0x{p:04x}" for p in points[i:i + 14]) + ",")
        print("};")


main()
