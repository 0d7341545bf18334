"""A play-shaped English text that this module generates itself, for first runs without a network. Torch-free.

It has what a character model can learn from: spelling, a skewed distribution of words, agreement of subject and verb,
speakers with their lines, verse of about equal length, scenes and stage directions. The text is the same on every
machine: only ``Random.random`` is used, whose sequence Python guarantees for a seed.
"""

from __future__ import annotations

import random
import re

SEED = 1616
CHARACTERS = 1_050_000

SPEAKERS = (
    "DUKE ORLAN", "QUEEN MARIS", "LORD FENWICK", "LADY ELSBETH", "BARNABY", "First Guard", "Second Guard", "HELENA",
    "OLD TOM", "Captain", "Messenger", "PRINCE ALDOUS", "ROSAMUND", "Nurse", "FRIAR ANSELM", "COUNT VERRANO",
    "First Sailor", "Clown", "SIR GAWTHORN", "MIRABEL", "Gardener", "Innkeeper", "PHILO", "All",
)  # fmt: skip
PLACES = (
    "the palace", "the harbour", "the orchard", "the old chapel", "the market square", "the forest",
    "the northern wall",
    "the tavern", "the queen's chamber", "the field of battle", "the prison", "the ferry", "the churchyard", "the mill",
)  # fmt: skip
SLOTS: dict[str, tuple[str, ...]] = {
    "noun": (
        "heart", "king", "night", "sword", "crown", "lady", "father", "friend", "word", "soul", "morning", "house",
        "brother", "ring", "letter", "storm", "daughter", "grave", "garden", "moon", "soldier", "secret", "candle",
        "river", "promise", "kingdom", "enemy", "shadow", "mother", "winter", "rose", "horse", "dream", "hour",
        "tongue",
        "oath", "village", "cousin", "fortune", "mirror", "servant", "lantern", "wound", "ship", "raven", "summer",
        "child", "castle", "judge", "song", "stranger", "grief", "harvest", "traitor", "feather", "battle", "bishop",
        "purse", "threshold", "nightingale", "gallows", "beggar", "hunter", "cradle", "poison", "merchant", "prayer",
    ),
    "plural": (
        "men", "stars", "tears", "eyes", "hands", "swords", "flowers", "kings", "bones", "winds", "years", "soldiers",
        "friends", "letters", "bells", "wolves", "children", "waves", "enemies", "leaves", "gates", "lovers", "thieves",
        "shadows", "hearts", "sisters", "stones", "debts", "horses", "promises", "ravens", "sorrows", "neighbours",
    ),
    "adjective": (
        "sweet", "noble", "cruel", "gentle", "old", "bitter", "fair", "false", "weary", "golden", "silent", "proud",
        "honest", "dark", "merry", "poor", "broken", "holy", "bright", "foolish", "faithful", "cold", "dreadful",
        "young",
        "worthy", "pale", "humble", "secret", "ancient", "idle", "tender", "wicked", "lonely", "restless", "quiet",
        "blessed", "savage", "patient", "crooked", "splendid",
    ),
    "verb": (
        "love", "fear", "hear", "remember", "follow", "forgive", "know", "serve", "leave", "betray", "find", "trust",
        "curse", "keep", "seek", "praise", "hate", "lose", "guard", "honour", "mock", "pardon", "bury", "greet",
        "envy", "comfort", "deceive", "welcome", "answer", "wake", "crown", "pity", "weigh", "carry", "banish",
    ),
    "verbs": (
        "loves", "fears", "hears", "remembers", "follows", "forgives", "knows", "serves", "leaves", "betrays", "finds",
        "trusts", "curses", "keeps", "seeks", "praises", "hates", "loses", "guards", "honours", "mocks", "pardons",
        "buries", "greets", "envies", "comforts", "deceives", "welcomes", "answers", "wakes", "crowns", "pities",
    ),
    "past": (
        "loved", "feared", "heard", "remembered", "followed", "forgave", "knew", "served", "left", "betrayed", "found",
        "trusted", "cursed", "kept", "sought", "praised", "hated", "lost", "guarded", "honoured", "mocked", "buried",
    ),
    "move": (
        "sleeps", "falls", "weeps", "burns", "wanders", "returns", "fades", "trembles", "dies", "rises", "waits",
        "sings", "bleeds", "grows old", "turns to dust", "comes home", "stands alone", "speaks no more",
    ),
    "moves": (
        "sleep", "fall", "weep", "burn", "wander", "return", "fade", "tremble", "die", "rise", "wait", "sing", "bleed",
        "grow old", "turn to dust", "come home", "stand alone", "speak no more",
    ),
    "where": (
        "in the {adjective} night", "beneath the moon", "upon the sea", "before the {noun}", "within my heart",
        "at the {adjective} gate", "among the {plural}", "beyond the river", "on this {adjective} ground",
        "by the light of the {noun}", "under the {adjective} sky", "beside the {noun}", "in my father's house",
        "behind the {adjective} wall",
    ),
    "when": (
        "tonight", "at last", "in time", "once more", "before the dawn", "till morning", "this very hour", "for ever",
        "when winter comes", "too late", "as long as I live", "ere the bell has rung", "day after day",
    ),
    "thing": (
        "the {noun}", "the {noun}", "the {noun}", "my {noun}", "my {noun}", "thy {noun}", "a {adjective} {noun}",
        "the {adjective} {noun}",
        "this {noun}", "my {adjective} {noun}", "our {noun}", "your {noun}", "his {noun}", "her {adjective} {noun}",
        "the {noun} of {name}", "no {noun}", "that {adjective} {noun}", "every {noun}",
    ),
    "things": (
        "the {plural}", "my {plural}", "these {adjective} {plural}", "our {plural}", "the {adjective} {plural}",
        "thy {plural}",
        "ten thousand {plural}", "all the {plural}", "such {plural}", "your {adjective} {plural}",
        "the {plural} of {name}",
    ),
    "whom": ("him", "her", "thee", "you", "them", "me", "us", "{name}", "{thing}", "{things}"),
    "name": (
        "Orlan", "Maris", "Fenwick", "Elsbeth", "Barnaby", "Helena", "Aldous", "Rosamund", "Anselm", "Verrano",
        "Gawthorn", "Mirabel", "Philo", "Venice", "Denmark", "heaven",
    ),
    "title": ("my lord", "good sir", "madam", "my liege", "sweet lady", "old friend", "cousin", "your grace", "sirrah"),
    "cry": ("O", "Alas", "Nay", "Ay", "Come", "Peace", "Hark", "Fie", "Marry", "Away", "Good heaven", "Well"),
    "clause": (
        "{thing} {verbs} {whom}", "{things} {verb} {whom}", "I {verb} {whom} {where}", "I will {verb} {whom} {when}",
        "{thing} {move} {where}", "{things} {moves} {where}", "thou art {thing}", "you are {adjective} and {adjective}",
        "he {past} {thing} {where}", "she {past} {things}", "we must {verb} {whom} {when}",
        "I have {past} {whom} {when}",
        "there is {thing} {where}", "there are {things} {where}", "it is {thing} that {verbs} {whom}",
        "{thing} is {adjective}, and {thing} is {adjective}", "they that {verb} {thing} shall {verb} {whom}",
        "let {thing} {verb} {whom}", "{things} are {adjective} {when}", "no {noun} so {adjective} as {thing}",
        "thou shalt not {verb} {whom} {when}", "what {thing} {verbs}, {things} {verb}", "I was {thing} {when}",
    ),
    "question": (
        "Who {verbs} {thing} {where}?", "What {noun} is this that {verbs} {whom}?",
        "Dost thou {verb} {thing}, {title}?",
        "Why do {things} {verb} {whom} {when}?", "Where is {thing}, {title}?", "Shall I {verb} {whom} {when}?",
        "Is {thing} {adjective}, or is {thing}?", "How can {thing} {verb} {whom}?", "Have you {past} {thing}?",
    ),
    "line": (
        "{cry}, {title}, {clause};", "{clause},", "{clause}.", "And {clause};", "For {clause},", "But {clause}.",
        "If {clause},", "Then {clause}.", "{question}", "{cry}! {clause}.", "{question} {cry}, {title}.", "{clause}:",
        "That {clause},", "When {clause},", "{clause}, {title}.", "So {clause}!", "Though {clause},",
        "And yet {clause}.",
    ),
    "direction": (
        "Enter {who} and {other}.", "Exit {who}.", "Enter {who}, with a {noun}.", "{who} draws a sword.", "They fight.",
        "Music within.", "Enter {other}, {adjective} and alone.", "Exeunt all but {who}.", "{who} reads the letter.",
        "Thunder. Enter {who}.", "{other} kneels.", "Aside to {who}.",
    ),
}  # fmt: skip
NUMERALS = ("I", "II", "III", "IV", "V", "VI", "VII")
_SLOT = re.compile(r"\{(\w+)\}")


def play(characters: int = CHARACTERS) -> str:
    """The generated text: whole speeches, at least ``characters`` characters, the same for every call."""
    draw = random.Random(SEED)
    parts: list[str] = []
    size = 0
    act, scene = 0, 0
    while size < characters:
        act, scene = (act + 1, 1) if scene == len(NUMERALS) or act == 0 else (act, scene + 1)
        cast = [SPEAKERS[int(draw.random() * len(SPEAKERS))] for _ in range(5)]
        place = PLACES[int(draw.random() * len(PLACES))]
        opening = f"ACT {1 + (act - 1) % 5}. SCENE {NUMERALS[scene - 1]}. Before {place}.\n\n"
        parts.append(opening)
        size += len(opening)
        speaker = ""
        for _ in range(30 + int(30 * draw.random())):
            others = [name for name in cast if name != speaker]  # nobody answers themselves
            speaker = others[int(len(others) * draw.random())] if others else speaker
            speech = _speech(speaker, cast, draw)
            parts.append(speech)
            size += len(speech)
    return "".join(parts)


def _speech(speaker: str, cast: list[str], draw: random.Random) -> str:
    """A speaker's lines, now and then with a stage direction before them."""
    lines = 1 + int(7 * draw.random() ** 2)  # short speeches are the most frequent
    text = "".join(f"{_verse(draw)}\n" for _ in range(lines - 1)) + _close(_verse(draw)) + "\n"
    direction = ""
    if draw.random() < 0.08:
        other = cast[int(len(cast) * draw.random())]
        template = _pick("direction", draw).replace("{who}", speaker).replace("{other}", other)
        direction = f"[{_fill(template, draw)}]\n\n"
    return f"{direction}{speaker}:\n{text}\n"


def _verse(draw: random.Random) -> str:
    """A line of 30 to 60 characters, as verse is."""
    while True:
        line = _fill(_pick("line", draw), draw)
        if 30 <= len(line) <= 60:
            return line[0].upper() + line[1:]


def _close(line: str) -> str:
    return line[:-1] + "." if line[-1] in ",;:" else line


def _pick(slot: str, draw: random.Random) -> str:
    """An entry of a slot; early entries are more frequent, as words in a language are."""
    choices = SLOTS[slot]
    return choices[int(len(choices) * draw.random() ** 1.6)]


def _fill(template: str, draw: random.Random) -> str:
    """Replace the slots of a template, and the slots in what replaces them."""
    while "{" in template:
        template = _SLOT.sub(lambda match: _pick(match[1], draw), template)
    return re.sub(r"\ba (?=[aeiou])", "an ", template)
