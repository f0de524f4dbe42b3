"""The training text: where it is, how it is cleaned, which stories are held out.

One file, tinystories-sample.txt (TinyStories, CDLA-Sharing-1.0). Every HOLD_OUT-th story is kept for
validation and never trained on. Nothing here knows about tokens or weights.
"""
import os

FILE = "corpora/tinystories-sample.txt"
SEPARATOR = "<|endoftext|>"
HOLD_OUT = 20  # one story in twenty, 5 %
PLAIN = {"\u201c": '"', "\u201d": '"', "\u00ab": '"', "\u00bb": '"', "\u2018": "'", "\u2019": "'",
         "\u2013": "-", "\u2014": "-", "\u2026": "...", "\u00a1": ""}


def add_data_argument(parser):
    """Adds --data, the folder that holds corpora/."""
    default = os.environ.get("SPARK_TEST_DATA", "../shared/data")
    parser.add_argument("--data", default=default,
                        help="folder of the test data (default: $SPARK_TEST_DATA, else ../shared/data)")


def clean(story):
    """One story as trained: plain quotes and dashes, single spaces, one newline between paragraphs."""
    for odd, plain in PLAIN.items():
        story = story.replace(odd, plain)
    lines = (" ".join(line.split()) for line in story.split("\n"))
    return "\n".join(line for line in lines if line)


def load(data):
    """Reads the file; returns (train, valid), two lists of stories. The last story is cut short and dropped."""
    with open(os.path.join(data, FILE), encoding="utf-8") as f:
        stories = [clean(s) for s in f.read().split(SEPARATOR)][:-1]
    train = [s for i, s in enumerate(stories) if i % HOLD_OUT != HOLD_OUT - 1]
    valid = [s for i, s in enumerate(stories) if i % HOLD_OUT == HOLD_OUT - 1]
    return train, valid
