"""Tests spm.py: the rule gives llama.cpp's ids for llama.cpp's vocabulary, and cutting into words changes nothing.

Reads tokenizers/gguf/llama-spm.gguf, .inp, .out of the test data, and demo-model.gguf beside this script.
"""
import argparse
import os

import corpus
import gguf_file
import spm

HERE = os.path.dirname(os.path.abspath(__file__))
VECTORS = "tokenizers/gguf/llama-spm.gguf"
BETWEEN = "\n__ggml_vocab_test__\n"


def read_text(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def test_rule_gives_the_reference_ids(data):
    """Every text of the reference gives exactly its ids."""
    path = os.path.join(data, VECTORS)
    tok = spm.Tokenizer(spm.from_keys(gguf_file.read(path)[0]))
    texts, answers = read_text(path + ".inp").split(BETWEEN), read_text(path + ".out").split("\n")
    for text, answer in zip(texts, answers):
        assert tok.merge(spm.escape(text)) == [int(i) for i in answer.split()], repr(text)
    return len(texts)


def test_cutting_into_words_changes_nothing(data):
    """Whole texts merged in one go equal the word-wise encoding, and decode to themselves."""
    tok = spm.Tokenizer(spm.from_keys(gguf_file.read(os.path.join(HERE, "demo-model.gguf"))[0]))
    odd = ["", " ", "   two  spaces ", "a\n\n b", "\ttab", "na\u00efve \u4f60\u597d \U0001f600", "'to 'tis don't", "<s></s><0x0A>"]
    texts = [s[:300] for s in corpus.load(data)[1][:20]] + odd
    for text in texts:
        ids = tok.encode(text, bos=False)
        assert ids == tok.merge(spm.escape(text)), repr(text)
        assert tok.decode(ids) == (" " + text if text else ""), repr(text)
    return len(texts)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    corpus.add_data_argument(p)
    args = p.parse_args()
    for test in (test_rule_gives_the_reference_ids, test_cutting_into_words_changes_nothing):
        print(f"{test.__name__}: {test(args.data)} texts")


if __name__ == "__main__":
    main()
