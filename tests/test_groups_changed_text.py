"""Texts of groups with words exchanged at random: each is refused in words, or read as a group that keeps all rules."""

import random
import re

from flambeau.compiler.backend import mlir
from flambeau.compiler.groups import reading
from flambeau.compiler.groups.form import GroupError
from flambeau.compiler.groups.text import print_group
from groups import GROUPS
from support import rounds

WORD = re.compile(r'"[^"]*"|%[\w#]+|[\w.]+|\s+|.')
#: Words that are exchanged: values, numbers, strings, loops, ops, types and names of three letters.
OPEN = re.compile(r'%.*|\d.*|".*|d\d|(?:arith|math|tensor)\.\w+|[a-z]\d+|\w{3}')


def kind(word: str) -> tuple:
    """Words of one kind may stand for each other."""
    return (
        word[0] == "%" and word[:2],
        word[0].isdigit() and "x" in word,
        word[0] == '"',
        word.partition(".")[0] if "." in word else "",
        re.fullmatch(r"d\d", word) is not None,
    )


def changed(text: str, chance: random.Random) -> str:
    """The text with one or two words exchanged for others of it; numbers for any small one."""
    words = WORD.findall(text)
    places = [k for k, word in enumerate(words) if word.strip() and OPEN.fullmatch(word)]
    for k in chance.choices(places, k=chance.choice([1, 1, 2])):
        others = sorted({w for w in words if w.strip() and kind(w) == kind(words[k]) and w != words[k]})
        if words[k].isdigit() and chance.random() < 0.7:
            others = [str(n) for n in (0, 1, 2, 3, 4, 5, 7, 8, 100)]
        words[k] = chance.choice(others or [words[k]])
    return "".join(words)


def test_changed_texts_are_refused_or_read():
    """No error but those of MLIR's verifier and ours; what is read is a group, and comes back as it is."""
    chance, read, refused = random.Random(7), 0, 0
    texts = [print_group(make()) for make in GROUPS.values()]
    for _ in range(rounds(250, 4000, 40000)):
        text = changed(chance.choice(texts), chance)
        try:
            groups = reading.parse(text)
        except (mlir.MlirError, GroupError) as error:
            assert str(error).strip() and "cannot be verified" not in str(error)
            refused += 1
            continue
        read += 1
        assert {name: reading.parse_group(print_group(group)) for name, group in groups.items()} == groups
    assert read and refused
