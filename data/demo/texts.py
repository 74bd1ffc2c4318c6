"""Questions without a picture: with the answer in a text, and from plain knowledge.

Each family is one function of a random source; `CONTEXT_FAMILIES` and `PLAIN_FAMILIES` list them by subject in turn.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle
from random import Random

from mm_adapter.data.demo import words
from mm_adapter.data.demo.draft import Draft

NATURAL, SOCIAL, LANGUAGE = "natural science", "social science", "language science"
Text = Callable[[Random], Draft]


def draft_texts(count: int, families: Sequence[Text], used: set[tuple[str, ...]], rng: Random) -> list[Draft]:
    """Return ``count`` questions, the families taking turns.

    Args:
        used: texts that are taken, those of other splits included; a repetition is drawn again as long as there is
            hope (plain facts are few, so a very large set repeats some). Grows by the texts of this call.
    """
    turns = cycle(rng.sample(list(families), len(families)))
    drafts: list[Draft] = []
    while len(drafts) < count:
        family = next(turns)
        for _ in range(50):
            draft = family(rng)
            text = (draft.context, draft.question, *sorted(draft.options))
            if text not in used:
                break
        used.add(text)
        drafts.append(draft)
    return drafts


def _draft(
    rng: Random,
    labels: Sequence[str],
    question: str,
    right: str,
    wrong: Sequence[str],
    context: str = "",
    lecture: str = "",
    solution: str = "",
) -> Draft:
    """Return a question with ``right`` at a random place among ``wrong``.

    Args:
        labels: subject, topic, category and skill.
    """
    options = rng.sample([right, *wrong], 1 + len(wrong))
    subject, topic, category, skill = labels
    return Draft(
        question=question,
        options=tuple(options),
        answer=options.index(right),
        subject=subject,
        topic=topic,
        category=category,
        skill=skill,
        grade=rng.randint(1, 12),
        context=context,
        lecture=lecture,
        solution=solution,
    )


def _others(rng: Random, pool: Sequence[str], right: str, most: int = 4) -> list[str]:
    """Return one to ``most`` wrong options from ``pool``."""
    wrong = [word for word in pool if word != right]
    return rng.sample(wrong, min(rng.randint(1, most), len(wrong)))


def _colour(rng: Random) -> Draft:
    name = rng.choice(words.NAMES)
    (one, other), (first, second) = rng.sample(words.THINGS, 2), rng.sample(words.COLOURS, 2)
    asked, right, wrong = rng.choice(((one, first, second), (other, second, first)))
    more = rng.sample([colour for colour in words.COLOURS if colour not in (first, second)], rng.randint(0, 3))
    return _draft(
        rng,
        (LANGUAGE, "reading-comprehension", "Reading-based questions", "Find details in a text"),
        f"What color is {name}'s {asked}?",
        right,
        [wrong, *more],
        context=f"{name} has a {first} {one} and a {second} {other}.",
        solution=f"The text says that the {asked} is {right}.",
    )


def _tallest(rng: Random) -> Draft:
    tall, middle, small = rng.sample(words.NAMES, 3)
    word, right, wrong = rng.choice((("tallest", tall, small), ("shortest", small, tall)))
    return _draft(
        rng,
        (LANGUAGE, "literacy-in-science", "Comparisons", "Compare by a text"),
        f"Who is the {word}?",
        right,
        [wrong, middle],
        context=f"{tall} is taller than {middle}. {middle} is taller than {small}.",
    )


def _seller(rng: Random) -> Draft:
    sellers, goods = rng.sample(words.NAMES, 3), rng.sample(words.GOODS, 3)
    chosen = rng.randrange(3)
    return _draft(
        rng,
        (SOCIAL, "economics", "Basic economic principles", "Identify a producer"),
        f"Who sells {goods[chosen]}?",
        sellers[chosen],
        [name for name in sellers if name != sellers[chosen]],
        context=" ".join(f"{name} sells {good}." for name, good in zip(sellers, goods, strict=True)),
        lecture="A person who sells a good is its seller.",
    )


def _place(rng: Random) -> Draft:
    places, directions = rng.sample(words.PLACES, 3), rng.sample(words.DIRECTIONS, 3)
    chosen = rng.randrange(3)
    sentences = [
        f"{place.capitalize()} is {direction} of the town." for place, direction in zip(places, directions, strict=True)
    ]
    return _draft(
        rng,
        (SOCIAL, "geography", "Maps", "Describe where places are"),
        f"What is {directions[chosen]} of the town?",
        places[chosen],
        [place for place in places if place != places[chosen]],
        context=" ".join(sentences),
    )


def _vote(rng: Random) -> Draft:
    (one, other), (few, many) = rng.sample(words.OUTINGS, 2), sorted(rng.sample(range(2, 30), 2))
    first = rng.random() < 0.5
    return _draft(
        rng,
        (SOCIAL, "civics", "Government", "Understand voting"),
        "Which place won the vote?",
        one if first else other,
        [other if first else one],
        context=f"In a vote, {many if first else few} children chose {one} and {few if first else many} chose {other}.",
        lecture="In a vote the choice with the most votes wins.",
    )


def _weather(rng: Random) -> Draft:
    days, weather = rng.sample(words.DAYS, 2), rng.sample(words.WEATHER, 2)
    chosen = rng.randrange(2)
    return _draft(
        rng,
        (NATURAL, "earth-science", "Weather and climate", "Describe the weather"),
        f"What was the weather on {days[chosen]}?",
        weather[chosen],
        _others(rng, words.WEATHER, weather[chosen]),
        context=f"There was {weather[0]} on {days[0]} and {weather[1]} on {days[1]}.",
    )


def _heavier(rng: Random) -> Draft:
    (one, other), (light, heavy) = rng.sample(words.THINGS, 2), sorted(rng.sample(range(1, 40), 2))
    first = rng.random() < 0.5
    return _draft(
        rng,
        (NATURAL, "physics", "Force and motion", "Compare masses"),
        "Which is heavier?",
        f"the {one if first else other}",
        [f"the {other if first else one}"],
        context=f"The {one} weighs {heavy if first else light} kilograms. "
        f"The {other} weighs {light if first else heavy} kilograms.",
    )


def _plants(rng: Random) -> Draft:
    (cared, left), need = rng.sample(words.SPOTS, 2), rng.choice(words.CARE)
    return _draft(
        rng,
        (NATURAL, "biology", "Plants", "Predict the growth of plants"),
        "Which plant will grow better?",
        f"the plant {cared}",
        [f"the plant {left}"],
        context=f"{rng.choice(words.NAMES)} has one plant {cared} and one {left}. Only the plant {cared} gets {need}.",
        lecture="Plants need water, light and soil to grow.",
    )


def _member(labels: Sequence[str], table: Mapping[str, Sequence[str]], wording: str, rng: Random) -> Draft:
    """Ask which of some things belongs to a class of ``table``."""
    name = rng.choice(list(table))
    rest = [thing for other, things in table.items() if other != name for thing in things]
    return _draft(rng, labels, wording.format(name), rng.choice(table[name]), rng.sample(rest, rng.randint(1, 3)))


def _partner(labels: Sequence[str], table: Mapping[str, str], wording: str, rng: Random) -> Draft:
    """Ask for the partner of a word in ``table`` among the partners of others."""
    word, right = rng.choice(list(table.items()))
    return _draft(rng, labels, wording.format(word), right, _others(rng, list(table.values()), right))


def _inflected(labels: Sequence[str], table: Mapping[str, str], ending: str, wording: str, rng: Random) -> Draft:
    """Ask for the right form of a word; the wrong ones are regular forms of the same word."""
    word, right = rng.choice(list(table.items()))
    wrong = [form for form in (f"{word}{ending}", f"{right}{ending}", word) if form != right]
    return _draft(rng, labels, wording.format(word), right, rng.sample(wrong, rng.randint(1, len(wrong))))


def _first_word(rng: Random) -> Draft:
    options = rng.sample(words.SORTED, rng.randint(2, 5))
    labels = (LANGUAGE, "reference-skills", "Reference skills", "Order alphabetically")
    right = min(options)
    question = "Which word comes first in the alphabet?"
    return _draft(rng, labels, question, right, [word for word in options if word != right])


def _capital_letter(rng: Random) -> Draft:
    right = rng.choice(words.PROPER).capitalize()
    wrong = [word.capitalize() for word in rng.sample(words.COMMON, rng.randint(1, 3))]
    labels = (LANGUAGE, "capitalization", "Capitalization", "Find the proper noun")
    question = "Which word is always written with a capital letter?"
    return _draft(rng, labels, question, right, wrong, lecture="Names take a capital.")


CONTEXT_FAMILIES: tuple[Text, ...] = (_colour, _tallest, _seller, _place, _vote, _weather, _heavier, _plants)

PLAIN_FAMILIES: tuple[Text, ...] = (
    partial(_member, (NATURAL, "biology", "Classification", "Classify animals"), words.ANIMALS, "Which one is {}?"),
    partial(_member, (NATURAL, "chemistry", "States of matter", "Classify matter"), words.STATES, "Which one is {}?"),
    partial(_member, (NATURAL, "units-and-measurement", "Units", "Choose a unit"), words.UNITS, "What measures {}?"),
    partial(_partner, (SOCIAL, "geography", "Capitals", "Know capitals"), words.CAPITALS, "What is the capital of {}?"),
    partial(_member, (SOCIAL, "geography", "Continents", "Locate countries"), words.CONTINENTS, "Which one is in {}?"),
    partial(
        _inflected, (LANGUAGE, "grammar", "Nouns", "Form plurals"), words.PLURALS, "s", "What is the plural of {}?"
    ),
    partial(
        _inflected, (LANGUAGE, "verbs", "Verb tense", "Form the past"), words.PAST, "ed", "What is the past of {}?"
    ),
    partial(_partner, (LANGUAGE, "vocabulary", "Synonyms", "Find a synonym"), words.SYNONYMS, "Which word means {}?"),
    partial(_partner, (LANGUAGE, "vocabulary", "Antonyms", "Find an antonym"), words.OPPOSITES, "Opposite of {}?"),
    partial(
        _partner, (LANGUAGE, "phonological-awareness", "Rhymes", "Find a rhyme"), words.RHYMES, "What rhymes with {}?"
    ),
    _first_word,
    _capital_letter,
)
