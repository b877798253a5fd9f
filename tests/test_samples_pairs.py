"""samples/en-fr.tsv, read by a checker that shares no word list and no rule with its generator."""

from argparse import Namespace
from collections import Counter

import pytest
from conftest import ROOT

import rnn_utils as utils

SAMPLES = ROOT / "samples"
ARGS = Namespace(quick=False)


@pytest.fixture(scope="module")
def parts():
    """Training, validation, test, as the lessons get them."""
    return utils.load_pairs(ARGS, utils.Source("sample", SAMPLES / "en-fr.tsv", False))


# The checker: a lexicon with every form written out, and a reader for each language
# that turns a sentence into a list of events, the same for both.

NOUNS = """man men homme hommes m/woman women femme femmes f/actor actors acteur acteurs m
actress actresses actrice actrices f/king kings roi rois m/queen queens reine reines f
baker bakers boulanger boulangers m/nurse nurses infirmière infirmières f
dog dogs chien chiens m/cat cats chat chats m/bird birds oiseau oiseaux m
horse horses cheval chevaux m/cow cows vache vaches f/mouse mice souris souris f
apple apples pomme pommes f/orange oranges orange oranges f/cake cakes gâteau gâteaux m
egg eggs œuf œufs m/book books livre livres m/letter letters lettre lettres f
hat hats chapeau chapeaux m/key keys clé clés f/plate plates assiette assiettes f
bag bags sac sacs m/computer computers ordinateur ordinateurs m
garden gardens jardin jardins m/park parks parc parcs m/school schools école écoles f
church churches église églises f/hotel hotels hôtel hôtels m
house houses maison maisons f/castle castles château châteaux m"""
BEFORE = """big grand grande grands grandes/small petit petite petits petites
old vieux vieille vieux vieilles/new nouveau nouvelle nouveaux nouvelles
beautiful beau belle beaux belles/good bon bonne bons bonnes
young jeune jeune jeunes jeunes"""
AFTER = """red rouge rouge rouges rouges/green vert verte verts vertes
yellow jaune jaune jaunes jaunes/black noir noire noirs noires
white blanc blanche blancs blanches/happy heureux heureuse heureux heureuses
sad triste triste tristes tristes/tired fatigué fatiguée fatigués fatiguées
strange étrange étrange étranges étranges/expensive cher chère chers chères"""
VERBS = """sees see voit voient/likes like aime aiment/looks-at look-at regarde regardent
looks-for look-for cherche cherchent/waits-for wait-for attend attendent
listens-to listen-to écoute écoutent/eats eat mange mangent/buys buy achète achètent
washes wash lave lavent/hides hide cache cachent/gives give donne donnent
shows show montre montrent/sleeps sleep dort dorment/runs run court courent
works work travaille travaillent/sings sing chante chantent"""
LIAISON = {"bel": "beau", "nouvel": "nouveau", "vieil": "vieux"}
# form: (English, gender or both, plural, what must follow: a vowel, a consonant or either)
ARTICLES = {
    "le": ("the", "m", 0, "c"),
    "la": ("the", "f", 0, "c"),
    "l'": ("the", "mf", 0, "v"),
    "les": ("the", "mf", 1, "cv"),
    "un": ("a", "m", 0, "cv"),
    "une": ("a", "f", 0, "cv"),
    "ce": ("this", "m", 0, "c"),
    "cet": ("this", "m", 0, "v"),
    "cette": ("this", "f", 0, "cv"),
    "ces": ("this", "mf", 1, "cv"),
    "ma": ("my", "f", 0, "c"),
    "mon": ("my", "mf", 0, "cv"),
    "mes": ("my", "mf", 1, "cv"),
    "sa": ("his", "f", 0, "c"),
    "son": ("his", "mf", 0, "cv"),
    "ses": ("his", "mf", 1, "cv"),
    "des": ("some", "mf", 1, "cv"),
    "deux": ("two", "mf", 1, "cv"),
    "trois": ("three", "mf", 1, "cv"),
}
MERGED = {
    "du": ("de", "le"),
    "des": ("de", "les"),
    "au": ("à", "le"),
    "aux": ("à", "les"),
}
LINKS = {"in": "dans", "behind": "derrière", "and": "et", "but": "mais"}


class WrongError(Exception):
    """The sentence breaks a rule."""


def must(holds, what):
    if not holds:
        raise WrongError(what)


def rows(text):
    return [entry.split() for entry in text.replace("\n", "/").split("/")]


EN_NOUN = {row[n]: (row[0], n) for row in rows(NOUNS) for n in (0, 1)}
FR_NOUN = {(row[2 + n], n): (row[0], row[4]) for row in rows(NOUNS) for n in (0, 1)}
FR_NOUN_FORMS = {form for form, _ in FR_NOUN}
FORMS = {row[0]: row[1:] for row in rows(BEFORE) + rows(AFTER)}  # m, f, m many, f many
FR_BEFORE = {form: row[0] for row in rows(BEFORE) for form in row[1:]}
FR_AFTER = {form: row[0] for row in rows(AFTER) for form in row[1:]}
EN_VERB = {row[n]: (row[1], n) for row in rows(VERBS) for n in (0, 1)}
FR_VERB = {row[2 + n]: (row[1], n) for row in rows(VERBS) for n in (0, 1)}
EN_VERB |= {"is": ("be", 0), "are": ("be", 1)}
FR_VERB |= {"est": ("be", 0), "sont": ("be", 1)}


def sound(word):
    return "v" if word[0] in "aeiouéêèœh" else "c"


class English:
    """Reads a sentence into events; the verb's "it" comes after it, "not" is part of it."""

    def __init__(self, text):
        text = text.replace(" not ", " not-")
        for form in EN_VERB:
            text = text.replace(f" {form.replace('-', ' ')} ", f" {form} ")
            text = text.replace(f"not-{form.replace('-', ' ')} ", f"not-{form} ")
        self.words = text.lower().rstrip(".").split()
        must(text[0].isupper() and text.endswith("."), "a capital and a full stop")
        self.events = []
        while self.words:
            self.events.append(self.event(self.words.pop(0)))

    def noun_phrase(self, article):
        adjectives = []
        while self.words[0] in FORMS:
            adjectives.append(self.words.pop(0))
        noun, many = EN_NOUN[self.words.pop(0)]
        return ("noun", article, frozenset(adjectives), noun, many)

    def event(self, word):
        rest = self.words[0] if self.words else ""
        if word in ("do", "does"):
            verb, many = EN_VERB[self.words.pop(0).removeprefix("not-")]
            must(many == 1, "does not see, never does not sees")
            return ("verb", verb, int(word == "do"), True)
        if word in ("is", "are"):
            negated = rest.startswith("not-")
            if negated:
                self.words[0] = rest.removeprefix("not-")
            return ("verb", *EN_VERB[word], negated)
        if word in EN_VERB:
            return ("verb", *EN_VERB[word], False)
        if word in ("he", "she", "they"):
            return ("who", word, int(word == "they"))
        if word in ("him", "it", "them") or word == "her" and not self.is_noun(rest):
            return ("object", word)
        if word in ("near", "to", *LINKS):
            return ("link", word)
        if word in FORMS:
            return ("said", word)
        if word in ("a", "an"):
            must((word == "an") == (rest[0] in "aeiou"), "an before a vowel only")
        one = {"a": "a", "an": "a", "these": "this", "her": "his"}
        found = self.noun_phrase(one.get(word, word))
        plural = {
            "a": 0,
            "an": 0,
            "this": 0,
            "these": 1,
            "some": 1,
            "two": 1,
            "three": 1,
        }
        must(plural.get(word, found[-1]) == found[-1], f"number of {word}")
        return found

    @staticmethod
    def is_noun(word):
        return word in FORMS or word in EN_NOUN


class French:
    """The same events, and every rule of form on the way."""

    def __init__(self, text):
        must(text[0].isupper() and text.endswith("."), "a capital and a full stop")
        self.words = utils.split_pair(text)[:-1]
        self.events, self.genders = [], []
        while self.words:
            self.events.extend(self.event(self.words.pop(0)))

    def follows(self, kinds, after):
        must(sound(self.words[0]) in kinds, f"{after} before {self.words[0]}")

    def article(self, word):
        """-> English article, genders, plural."""
        must(self.words, f"the sentence ends with {word}")
        before = self.words[0] in FR_BEFORE or self.words[0] in LIAISON
        if word in ("de", "d'"):
            self.follows("c" if word == "de" else "v", word)
            if self.events and self.events[-1][0] == "verb" and self.events[-1][3]:
                return "a", "mf", 0
            must(before, "de only before an adjective")
            return "some", "mf", 1
        must(word in ARTICLES, f"{word} is no article")
        english, genders, many, kinds = ARTICLES[word]
        self.follows(kinds, word)
        must(word != "des" or not before, "de grands, not des grands")
        after_not = self.events and self.events[-1][0] == "verb" and self.events[-1][3]
        must(not after_not or english != "a", "pas de, not pas un")
        if word in ("mon", "son") and sound(self.words[0]) == "c":
            genders = "m"
        return english, genders, many

    def noun_phrase(self, word):
        article, genders, many = self.article(word)
        adjectives = []
        while self.words[0] not in FR_NOUN_FORMS:
            form = self.words.pop(0)
            must(form in FR_BEFORE or form in LIAISON, f"{form} before the noun")
            adjectives.append((form, FR_BEFORE.get(LIAISON.get(form, form))))
        form = self.words.pop(0)
        must((form, many) in FR_NOUN, f"number of {form}")
        noun, gender = FR_NOUN[form, many]
        must(gender in genders, f"{word} with {form}")
        for said, adjective in adjectives:
            right = FORMS[adjective]["mf".index(gender) + 2 * many]
            if not many and gender == "m" and sound(form) == "v":
                right = {v: k for k, v in LIAISON.items()}.get(right, right)
            must(said == right, f"{said} {form}")
        while self.words and self.words[0] in FR_AFTER:
            said = self.words.pop(0)
            adjectives.append((said, FR_AFTER[said]))
            right = FORMS[FR_AFTER[said]]["mf".index(gender) + 2 * many]
            must(said == right, f"{form} {said}")
        self.genders.append(gender)
        return ("noun", article, frozenset(a for _, a in adjectives), noun, many)

    def verb(self, word):
        """[ne] [le] verb [pas]; the object pronoun comes second, as in English."""
        negated, pronoun = word in ("ne", "n'"), []
        if negated:
            self.follows("c" if word == "ne" else "v", word)
            word = self.words.pop(0)
        if word in ("le", "la", "les", "l'"):
            self.follows({"les": "cv", "l'": "v"}.get(word, "c"), word)
            pronoun = [("object", word)]
            word = self.words.pop(0)
        must(word in FR_VERB, f"{word} is no verb")
        must(not negated or self.words and self.words.pop(0) == "pas", "ne without pas")
        return [("verb", *FR_VERB[word], negated), *pronoun]

    def event(self, word):
        rest = self.words[0] if self.words else ""
        pronoun = word in ("le", "la", "les", "l'") and rest in FR_VERB
        if word in ("ne", "n'") or word in FR_VERB or pronoun:
            return self.verb(word)
        if word in ("il", "elle", "ils"):
            who = {"il": "he", "elle": "she", "ils": "they"}[word]
            return [("who", who, int(who == "they"))]
        for english, french in LINKS.items():
            if word == french:
                return [("link", english)]
        if word == "près":
            self.events.append(("link", "near"))
            return [self.after_preposition("de", self.words.pop(0))]
        if word in ("à", "au", "aux"):
            self.events.append(("link", "to"))
            return [self.after_preposition("à", word)]
        if self.events and self.events[-1][:2] == ("verb", "be"):
            return [("said", *self.said(word))]
        return [self.noun_phrase(word)]

    def after_preposition(self, preposition, word):
        if word in MERGED:
            must(MERGED[word][0] == preposition, f"{word} for {preposition}")
            return self.noun_phrase(MERGED[word][1])
        if word == "d'":
            self.follows("v", word)
        else:
            must(word == preposition, f"{word} for {preposition}")
        must(self.words[0] not in ("le", "les"), f"{word} {self.words[0]}")
        must(word == "d'" or word == "à" or sound(self.words[0]) == "c", "de un")
        return self.noun_phrase(self.words.pop(0))

    def said(self, form):
        """The adjective after est or sont."""
        subject = self.events[0]
        must({**FR_BEFORE, **FR_AFTER}.get(form), f"{form} is no adjective")
        adjective = {**FR_BEFORE, **FR_AFTER}[form]
        right = FORMS[adjective]["mf".index(self.genders[0]) + 2 * subject[-1]]
        must(form == right, f"{form} said of {subject[3]}")
        return [adjective]


def check_pair(english, french):
    """WrongError unless the French is right and says what the English says."""
    left, right = English(english), French(french)
    for side in (left, right):
        numbers = [event[2] for event in side.events if event[0] == "verb"]
        must(set(numbers) == {side.events[0][-1]}, "number of the verb")
    must(len(left.events) == len(right.events), "as many parts on both sides")
    for one, other in zip(left.events, right.events, strict=True):
        if one[0] != "object":
            must(one == other, f"{one} became {other}")
            continue
        it = {"m": "le", "f": "la"}[right.genders[-1]] if one[1] == "it" else None
        meant = {"him": "le", "her": "la", "them": "les"}.get(one[1], it)
        must(other[0] == "object", "an object before the verb")
        must(
            other[1] in (meant, "l'" if meant != "les" else ""), f"{one[1]}: {other[1]}"
        )


KNOWN = [
    ("The man is tired.", "L'homme est fatigué."),
    ("The old actor is not happy.", "Le vieil acteur n'est pas heureux."),
    (
        "The actress buys a red hat but does not like it.",
        "L'actrice achète un chapeau rouge mais ne l'aime pas.",
    ),
    (
        "Some small black dogs look at her near the hotels.",
        "De petits chiens noirs la regardent près des hôtels.",
    ),
    (
        "She does not see them in this beautiful garden.",
        "Elle ne les voit pas dans ce beau jardin.",
    ),
    (
        "They give my orange to the happy bakers.",
        "Ils donnent mon orange aux boulangers heureux.",
    ),
    ("He does not eat an orange.", "Il ne mange pas d'orange."),
    (
        "The queens hide two new plates and look for them.",
        "Les reines cachent deux nouvelles assiettes et les cherchent.",
    ),
    (
        "This nurse sleeps behind an old school.",
        "Cette infirmière dort derrière une vieille école.",
    ),
]

WRONG = [
    ("The apple is red.", "Le pomme est rouge.", "gender of the article"),
    ("The hotel is new.", "Le hôtel est nouveau.", "elision"),
    ("The cow is white.", "La vache est blanc.", "the adjective said of a noun"),
    ("The cows are white.", "Les vaches est blanches.", "number of the verb"),
    ("The cows are white.", "La vache est blanche.", "number of the noun"),
    ("He sees a red hat.", "Il voit un rouge chapeau.", "order of the adjective"),
    ("He sees a new hat.", "Il voit un chapeau nouveau.", "order of the adjective"),
    ("He sees a new hotel.", "Il voit un nouveau hôtel.", "nouvel before a vowel"),
    ("He sees some black cows.", "Il voit des vaches noirs.", "agreement"),
    ("He sees some old cats.", "Il voit des vieux chats.", "de before an adjective"),
    ("He does not see the cat.", "Il ne voit le chat.", "ne without pas"),
    ("He does not see the cat.", "Il voit le chat.", "no negation"),
    ("He sees the cat.", "Il ne voit pas le chat.", "a negation too many"),
    ("He does not see a cat.", "Il ne voit pas un chat.", "pas de"),
    ("He does not like the cat.", "Il ne aime pas le chat.", "elision of ne"),
    ("He sees them in the park.", "Il voit les dans le parc.", "place of the pronoun"),
    ("He sees her in the park.", "Il le voit dans le parc.", "gender of the pronoun"),
    ("He buys a plate and sees it.", "Il achète une assiette et le voit.", "it"),
    ("He sleeps near the park.", "Il dort près de le parc.", "du"),
    ("He gives my hat to the king.", "Il donne mon chapeau à le roi.", "au"),
    ("He sees my plate.", "Il voit ma assiette.", "mon before a vowel"),
    ("He sees this bird.", "Il voit ce oiseau.", "cet before a vowel"),
    ("He sees the dog.", "Il voit le chat.", "another noun"),
    ("He sees the dog.", "Elle voit le chien.", "another pronoun"),
    ("He sees a apple.", "Il voit une pomme.", "an"),
]


@pytest.mark.parametrize(("english", "french"), KNOWN)
def test_the_checker_takes_good_french(english, french):
    """Hand-written pairs: a checker that refuses these would prove nothing below."""
    check_pair(english, french)


@pytest.mark.parametrize(
    ("english", "french", "why"), WRONG, ids=[row[2] for row in WRONG]
)
def test_the_checker_refuses_bad_french(english, french, why):
    """One fault each: a checker that passes these would prove nothing below."""
    with pytest.raises(WrongError):
        check_pair(english, french)
    if why != "an":
        English(english)


def test_every_pair_is_right(parts):
    """Agreement, order, elision, ne ... pas and pronouns, on every line of the file."""
    for pair in (pair for part in parts for pair in part):
        try:
            check_pair(*pair)
        except (WrongError, KeyError, IndexError) as error:
            pytest.fail(f"{pair}: {error!r}")


def test_every_rule_occurs(parts):
    """A file that never shows a rule would pass above without a test of it."""
    text = "\n".join(french for _, french in parts[2]).lower()
    shown = ["l'a", "n'", " pas d'", " pas de ", " du ", " au ", " aux ", "près des "]
    shown += [
        "cet ",
        "bel ",
        "nouvel ",
        "vieil ",
        "mon a",
        " ne la ",
        " ne l'",
        " d'un",
    ]
    for words in shown:
        assert words in text, words
    assert any(french.startswith("De ") for _, french in parts[2])


def test_size_and_distinct_sentences(parts):
    """At least 5,000 pairs, no English sentence twice, 4 to 12 words, a small file."""
    assert [len(part) for part in parts] == [4800, 600, 600]
    pairs = [pair for part in parts for pair in part]
    assert len({english for english, _ in pairs}) == len(pairs) >= 5000
    assert {len(english.split()) for english, _ in pairs} == set(range(4, 13))
    data = (SAMPLES / "en-fr.tsv").read_bytes()
    assert len(data) < 600_000
    assert b"\r" not in data and data.endswith(b".\n")


def test_words_and_back(parts):
    """What join_words writes of a right answer has to be the text it is compared with."""
    for text in (text for part in parts for pair in part for text in pair):
        assert utils.join_words(utils.split_pair(text)) == text


def links_of(english):
    """Adjective and its noun, verb and its object: the pairs of words that belong together."""
    links, nouns, verb, waits = set(), [], None, False
    for event in English(english).events:
        kind = event[0]
        if kind == "verb":
            verb, waits = event[1], True
        elif kind == "noun":
            nouns.append(event[3])
            links |= {(adjective, event[3]) for adjective in event[2]}
            links |= {(verb, event[3])} if waits else set()
        elif kind == "said":
            links.add((event[1], nouns[0]))
        elif kind == "object" and event[1] in ("it", "them") and len(nouns) > 1:
            links.add((verb, nouns[-1]))
        waits = kind == "verb"
    return links


def met_in(part):
    """All pairs (adjective or verb, noun) that stand in one sentence, linked or not."""
    met = set()
    for english, _ in part:
        events = English(english).events
        nouns = [event[3] for event in events if event[0] == "noun"]
        words = [event[1] for event in events if event[0] in ("verb", "said")]
        words += [a for event in events if event[0] == "noun" for a in event[2]]
        met |= {(word, noun) for word in words for noun in nouns}
    return met


def test_links_by_hand():
    """What the next test looks for, worked out by hand."""
    assert links_of("The old man buys a red hat but does not like it.") == {
        ("old", "man"),
        ("buy", "hat"),
        ("red", "hat"),
        ("like", "hat"),
    }
    assert links_of("The dogs look at them in a park.") == set()
    assert links_of("The small cat is black.") == {("small", "cat"), ("black", "cat")}
    assert links_of("She gives my key to the sad king.") == {
        ("give", "key"),
        ("sad", "king"),
    }


def test_held_out_pairs_are_new(parts):
    """Each sentence of validation and of test joins two words that never met in training."""
    met = met_in(parts[0])
    new = [[links_of(english) - met for english, _ in part] for part in parts[1:]]
    assert all(new[0]) and all(new[1])
    validation, test = (set().union(*found) for found in new)
    assert not validation & test
    assert min(len(validation), len(test)) >= 20, (
        "too few to say anything about new ones"
    )


def test_every_word_is_trained(parts):
    """A word of test that training lacks could not be translated by any model."""
    for side in (0, 1):
        train, *rest = (
            Counter(word for pair in part for word in utils.split_pair(pair[side]))
            for part in parts
        )
        assert min(train.values()) >= 15
        assert set(rest[0]) | set(rest[1]) <= set(train)
        assert len(train) <= 200


def test_parts_are_shuffled(parts):
    """Kinds of sentence lie mixed, so that the first tenth of a part is like the last."""
    for part in parts:
        tenth = len(part) // 10
        for some in (part[:tenth], part[-tenth:]):
            share = sum(" not " in english for english, _ in some) / tenth
            assert 0.2 < share < 0.6
