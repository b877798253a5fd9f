"""Writes the three generated samples, byte for byte the same on every machine.

    python samples/generate.py            rewrites the files beside this script
    python samples/generate.py --check    writes nothing; exit status 1 if one differs

reviews.csv     made-up film reviews, pos or neg; the order of the words decides
tagged.conllu   sentences whose ambiguous words the words to their right decide
en-fr.tsv       English and French; test combines words that never met in training
"""

import argparse
import csv
import io
import random
import re
import sys
from collections import Counter, defaultdict, namedtuple
from pathlib import Path

HERE = Path(__file__).resolve().parent


def entries(text):
    """What stands between slashes or line ends."""
    return text.replace("\n", "/").split("/")


def fill(rng, template, lists):
    """Replace each {name} in `template` by one of lists[name], again and again."""
    while "{" in template:
        template = re.sub(
            r"\{(\w+)\}", lambda match: rng.choice(lists[match[1]]), template
        )
    return template


# ====================================================================================
# 1. reviews.csv
# ====================================================================================
#
# A review is one sentence with the writer's verdict among sentences that say nothing
# of it.  The rule that gives the label:
#
#   - an adjective counts as its list says; a negator before it in its clause (not,
#     hardly, far from) turns it round
#   - "X, but Y", "although X, Y" and "Y, although X": the main clause Y counts, X not
#   - what others say, and what was expected, does not count: "I expected ..."
#
# Both sides have as many words, and negators on either (on the bad one a few more), so
# that counts tell little.  What turns a clause can stand many words before what it
# turns, and the whole verdict many words before the review's end: that takes a memory.

GOOD = entries("""good/great/brilliant/wonderful/superb/excellent/splendid/delightful
impressive/remarkable/lovely/marvellous/fine""")
BAD = entries("""bad/poor/dreadful/terrible/awful/dull/weak/clumsy/lifeless/tedious
tiresome/feeble/dismal""")
FILM_TEXTS = {
    "aspect": """the acting/the story/the ending/the music/the dialogue/the camera work
the film/the first hour/the cast/the script/the lighting/the title song/the last scene
the love story/the opening/the sound""",
    "negator": "not/hardly/far from",
    "degree": "really/truly/very/entirely",
    "who": """my brother/my sister/a friend/my neighbour/our teacher/my aunt/my cousin
a colleague/our lodger/my uncle""",
    "crowd": """the papers/the critics/the posters/my friends/the people at work
the students in my street""",
    "place": """a small cinema by the river/the old hall in our town
the cinema at the station/a tent in the park/the new cinema behind the market
a school hall/the cinema across the bridge""",
    "day": "Monday/Tuesday/Wednesday/Thursday/Friday/Saturday/Sunday",
    "time": """last {day}/on a {day} evening/on a {day} afternoon/a week ago/in March
in October/after work/during the holidays""",
    "count": "two/three/four/five/six/eight/ten/twelve/twenty",
    "aside": """as {who} and I agreed on the way home/for those of us in the back row
as I said to {who} at the door/when you sit as close as we sat
whatever {who} may say about it/from the first minute to the last
as {who} wrote to me {time}/to someone who reads as many books as {who}
at least in {place}/if you ask {who} or me""",
    "which": """which was cut {count} times before the release
which we talked about for {count} days/which {who} had told us about {time}
which {who} knows by heart/which came back to me in the tram
which {who} wrote about in the paper/which is named on the ticket""",
    "filler": """I saw it {time} in {place}.
We went there {time}, {who} and I.
There were {count} people in {place}.
It runs for two hours and {count} minutes.
I had read the book {count} years ago, and so had {who}.
The film is set in a town by the sea, where {count} sailors wait for a ship.
A clerk loses his keys, and {count} days later a nurse finds them.
{who} sat beside me and ate an apple.
It had rained since {day}, and the tram was late.
The tickets cost {count} pounds, and the coats had to be left at the door.
They showed it again {time}, with {count} minutes of news before it.
We walked home along the canal and talked about {count} other things.
The second part takes place in a kitchen, the third in {place}.
{who} asked me {time} to write about it, so here it is.
It was filmed in black and white by a team of {count}.
There is a train in it, a letter, and a dog with {count} names.
After it we had tea with {who} and looked at the photographs.
The seats in {place} are made of wood and painted red.""",
    "hearsay": """{crowd} call it {claim}.
I expected something {claim}.
{who} had told me that it was {claim}.
According to {crowd} it is {claim}.
From {crowd} I expected {aspect} to be {claim}.
{who} calls {aspect} {claim}.""",
}
FILM = {name: entries(text) for name, text in FILM_TEXTS.items()}
NEGATED = {True: 0.21, False: 0.24}  # how often a clause is turned round


def clause(rng, aspect, good):
    """A clause which says that `aspect` is good, or bad if `good` is false."""
    negated = rng.random() < NEGATED[good]
    words = [aspect]
    if rng.random() < 0.2:
        words.append(", {which},")
    words.append(rng.choice(["is", "was"]))
    if negated:
        words.append("{negator}")
    if rng.random() < 0.15:
        words.append(", {aside},")
    if rng.random() < 0.4:
        words.append("{degree}")
    words.append(rng.choice(GOOD if good != negated else BAD))
    return fill(rng, " ".join(words).replace(" ,", ","), FILM)


def verdict(rng, good):
    """The sentence that decides: its main clause is `good`, a side clause is not."""
    frame = rng.choice(FRAMES)
    one, two = rng.sample(FILM["aspect"], 2)
    return frame.format(
        main=clause(rng, one, good),
        side=clause(rng, two, not good),
        also=clause(rng, two, good),
    )


FRAMES = [
    "{main}.",
    "{main}.",
    "{main}.",
    "{main}.",
    "{main}, and {also}.",
    "{main}, and {also}.",
    "{side}, but {main}.",
    "{main}, and {also}.",
    "{side}, yet {main}.",
    "although {side}, {main}.",
    "{main}, although {side}.",
    "even though {side}, {main}.",
]


def hearsay(rng, good):
    """What somebody else says or expected: as often the opposite as not."""
    claim = rng.choice(BAD if good == (rng.random() < 0.5) else GOOD)
    return fill(rng, rng.choice(FILM["hearsay"]), {**FILM, "claim": [claim]})


def review(rng, good):
    """One review, without a line end."""
    before = [fill(rng, "{filler}", FILM) for _ in range(rng.choice([0, 0, 0, 1]))]
    after = [fill(rng, "{filler}", FILM) for _ in range(rng.choice([0, 0, 1, 1, 2]))]
    if rng.random() < 0.2:
        side = rng.choice([before, after])
        side.insert(rng.randrange(len(side) + 1), hearsay(rng, good))
    sentences = [*before, verdict(rng, good), *after]
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)


def reviews(count=8800, shortest=10, longest=80, seed=1):
    """`count` distinct (text, label) in random order, half of them pos."""
    rng, seen, rows = random.Random(seed), set(), []
    while len(rows) < count:
        good = len(rows) % 2 == 0
        text = review(rng, good)
        if text not in seen and shortest <= len(text.split()) <= longest:
            seen.add(text)
            rows.append((text, "pos" if good else "neg"))
    rng.shuffle(rows)
    return rows


def reviews_csv():
    """The file's text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["text", "label"])
    writer.writerows(reviews())
    return out.getvalue()


# ====================================================================================
# 2. tagged.conllu
# ====================================================================================
#
# Each row of TAGGED makes pairs of sentences that begin alike: the beginning, then how
# it goes on after the first tags, then how it goes on after the second.  A slash parts
# word and tag, or a word's two tags; {x} is one of TAG_WORDS["x"].
#
# So a word with two tags has as many endings of either kind after each beginning: who
# has read only so far can but guess.  What decides comes one to three words later.

TAGGED = """
{det}/DET {cold}/NOUN/ADJ # {be}/AUX {old}/ADJ # {thing}/NOUN {be}/AUX {old}/ADJ
{we}/PRON {saw}/VERB her/PRON {watch}/VERB/NOUN # the/DET {thing}/NOUN # {fall}/VERB
{now}/ADV {paint}/VERB/NOUN # the/DET {thing}/NOUN # is/AUX {old}/ADJ
{we}/PRON can/AUX/VERB {fish}/VERB/NOUN and/CCONJ # {sing}/VERB {soon}/ADV # {meat}/NOUN {soon}/ADV
the/DET {rich}/ADJ {man}/NOUN/VERB # {be}/AUX {old}/ADJ # the/DET {thing}/NOUN
the/DET {rich}/ADJ {man}/NOUN/VERB and/CCONJ {help}/NOUN/VERB # were/AUX {old}/ADJ # the/DET {thing}/NOUN
the/DET {club}/NOUN {plans}/VERB/NOUN # the/DET {thing}/NOUN # were/AUX {old}/ADJ
{we}/PRON {said}/VERB that/SCONJ/DET # {things}/NOUN were/AUX {old}/ADJ # {thing}/NOUN was/AUX {old}/ADJ
{some}/DET {boys}/NOUN like/VERB/ADP {him}/PRON # very/ADV much/ADV # are/AUX {old}/ADJ
{we}/PRON {ate}/VERB {before}/ADP/SCONJ the/DET {rain}/NOUN # {soon}/ADV # {ended}/VERB
"""
TAG_TEXTS = {
    "det": "the this that each every",
    "cold": "cold light patient novel secret square criminal musical original liquid",
    "be": "is was",
    "old": "old new small strange late ready cheap rare",
    "thing": "box letter door room song story house boat table train",
    "things": "boxes letters doors rooms songs stories houses boats tables trains",
    "we": "we they you I",
    "saw": "saw watched heard",
    "watch": "watch paint plant cover record brush light copy book play",
    "fall": "fall vanish burn break",
    "now": "now then here later first",
    "paint": "paint water oil dust butter salt light sand wax glue",
    "fish": "fish milk paint drink",
    "sing": "sing swim eat read",
    "meat": "meat soup fruit bread",
    "soon": "there again often soon",
    "rich": "rich poor old young strong brave",
    "man": "man guide guard nurse judge pilot coach host",
    "help": "help watch cook train model doctor",
    "club": "club school team city hotel church museum company",
    "plans": "plans plays shows books watches orders records runs",
    "said": "said knew wrote heard",
    "some": "some these those all no",
    "boys": "boys girls neighbours teachers children sailors",
    "him": "him her me us them you",
    "ate": "ate slept waited talked",
    "before": "before after until",
    "rain": "rain match storm lesson concert film",
    "ended": "ended began stopped started",
}
TAG_WORDS = {name: words.split() for name, words in TAG_TEXTS.items()}


def tagged_words(text, choice):
    """ "a/X b/Y/Z" -> [("a", "X"), ("b", "Y" or, if choice is 1, "Z")]."""
    cells = [cell.split("/") for cell in text.split()]
    return [(word, tags[min(choice, len(tags) - 1)]) for word, *tags in cells]


def tagged_pair(rng, row):
    """Two sentences, lists of (word, tag): they begin alike, and their tags differ."""
    beginning, *endings = row.split(" # ")
    beginning = fill(rng, beginning, TAG_WORDS)
    pair = []
    for choice, ending in enumerate(endings):
        ending = fill(rng, ending, TAG_WORDS) + " ./PUNCT"
        (first, tag), *rest = tagged_words(f"{beginning} {ending}", choice)
        pair.append([(first[0].upper() + first[1:], tag), *rest])
    return pair


def tagged_sentences(pairs=135, seed=2):
    """`pairs` pairs of each row of TAGGED, all sentences distinct, in random order."""
    rng, seen, sentences = random.Random(seed), set(), []
    for row in TAGGED.strip().split("\n"):
        left = pairs
        while left:
            pair = tagged_pair(rng, row)
            texts = {" ".join(word for word, _ in sentence) for sentence in pair}
            if not texts & seen:
                seen |= texts
                sentences += pair
                left -= 1
    rng.shuffle(sentences)
    return sentences


def left_to_right_ceiling(sentences):
    """The best accuracy over words for who sees no word to the right of the tagged one.

    sentences: lists of (word, tag).  After each beginning of a sentence the best answer
    is the tag which that beginning's last word has most often.
    """
    tags = defaultdict(Counter)
    for sentence in sentences:
        words = tuple(word for word, _ in sentence)
        for k, (_, tag) in enumerate(sentence, start=1):
            tags[words[:k]][tag] += 1
    best = sum(max(counts.values()) for counts in tags.values())
    return best / sum(counts.total() for counts in tags.values())


def tagged_conllu():
    """The file's text: ten columns, of which ID, FORM and UPOS are used."""
    blocks = []
    for number, sentence in enumerate(tagged_sentences(), start=1):
        text = " ".join(word for word, _ in sentence)
        lines = [f"# sent_id = {number}", f"# text = {text}"]
        for k, (word, tag) in enumerate(sentence, start=1):
            lines.append("\t".join([str(k), word, "_", tag, *"______"]))
        blocks.append("\n".join(lines) + "\n\n")
    return "".join(blocks)


# ====================================================================================
# 3. en-fr.tsv
# ====================================================================================
#
# An English sentence, a tab, its French one.  What French does otherwise:
#
#   - articles and adjectives follow the noun's gender and number: le vieux livre, la
#     vieille assiette; most adjectives follow the noun, some stand before it
#   - pronouns stand before the verb, and "it" has the gender of what it stands for;
#     "not" is two words, around both: "does not see it" is "ne le voit pas"
#   - le, la, de, ne lose their vowel before another one; "de le" is du, "à le" is au
#
# Some adjective-noun and verb-noun pairs are kept for validation, some for test.  In
# training the two words of such a pair never stand in one sentence, though each stands
# in many.

Noun = namedtuple("Noun", "en fr gender kind")
Adjective = namedtuple("Adjective", "en fr feminine place kinds")
Verb = namedtuple("Verb", "en one many subjects objects")  # il voit, ils voient
Phrase = namedtuple("Phrase", "en fr many noun")  # `noun` is None for a pronoun
Draft = namedtuple("Draft", "rng nouns others links")  # the words used, what joins two


def table(row, text):
    """Entries divided by "/" or line ends -> tuples; "_" is a space within a word."""
    entries = text.strip().replace("\n", "/").split("/")
    return [row(*(w.replace("_", " ") for w in entry.split())) for entry in entries]


# Kinds: p people, a animals, f food, t things, l places.
PAIR_NOUNS = table(
    Noun,
    """man homme m p/woman femme f p/actor acteur m p/actress actrice f p
king roi m p/queen reine f p/baker boulanger m p/nurse infirmière f p
dog chien m a/cat chat m a/bird oiseau m a/horse cheval m a/cow vache f a
mouse souris f a/apple pomme f f/orange orange f f/cake gâteau m f/egg œuf m f
book livre m t/letter lettre f t/hat chapeau m t/key clé f t/plate assiette f t
bag sac m t/computer ordinateur m t
garden jardin m l/park parc m l/school école f l/church église f l/hotel hôtel m l
house maison f l/castle château m l""",
)
# In the order in which English says them: "a strange old house", "a small black dog".
PAIR_ADJECTIVES = table(
    Adjective,
    """good bon bonne before ft/beautiful beau belle before paftl
strange étrange étrange after patl/expensive cher chère after ft
happy heureux heureuse after pa/sad triste triste after pa
tired fatigué fatiguée after pa/big grand grande before atl
small petit petite before paftl/young jeune jeune before pa
old vieux vieille before patl/new nouveau nouvelle before tl
red rouge rouge after ft/green vert verte after ft/yellow jaune jaune after ft
black noir noire after at/white blanc blanche after at""",
)
PAIR_VERBS = table(
    Verb,
    """see voit voient pa paftl/like aime aiment pa paftl
look_at regarde regardent pa paftl/look_for cherche cherchent pa paftl
wait_for attend attendent pa pa/listen_to écoute écoutent p pa
eat mange mangent pa f/buy achète achètent p aft
wash lave lavent p aft/hide cache cachent p ft""",
)
PAIR_GIVING = table(Verb, "give donne donnent p ft/show montre montrent p aft")
PAIR_STAYING = table(
    Verb,
    """sleep dort dorment pa -/run court courent pa -/work travaille travaillent p -
sing chante chantent p -""",
)
FRENCH_PLACES = [("in", "dans"), ("behind", "derrière"), ("near", "près de")]
SUBJECTS = [  # elles, only women, does not occur
    Phrase("he", "il", False, None),
    Phrase("she", "elle", False, None),
    Phrase("they", "ils", True, None),
]
ARTICLE_ROWS = """the le la les/a un une -/this ce cette -/my mon ma mes/his son sa ses
her son sa ses/some - - des/these - - ces/two - - deux/three - - trois"""
ARTICLES = {row[0]: row[1:] for row in table(lambda *words: words, ARTICLE_ROWS)}
UNCOUNTED = {"some", "two", "three"}  # not said after "not" and after a preposition
ENGLISH_PLURALS = {"man": "men", "woman": "women", "mouse": "mice"}
BEFORE_VOWEL = {"beau": "bel", "nouveau": "nouvel", "vieux": "vieil"}
VOWELS = "aeiouéœh"  # each h in these lists is silent: l'homme, l'hôtel
SOUNDS = [
    (rf"\b(l[ea]|[dn]e) (?=[{VOWELS}])", lambda match: match[1][0] + "'"),
    (rf"\bce (?=[{VOWELS}])", "cet "),
    (rf"\b([ms])a (?=[{VOWELS}])", r"\1on "),
    (r"\bde le ", "du "),
    (r"\bde les ", "des "),
    (r"\bà le ", "au "),
    (r"\bà les ", "aux "),
]


def add_s(words):
    """Plural of an English noun, or "he" form of a verb: see, look at, wash."""
    first, space, rest = words.partition(" ")
    ending = "es" if first.endswith(("s", "sh", "ch")) else "s"
    return ENGLISH_PLURALS.get(first, first + ending) + space + rest


def french_plural(word):
    """Of nouns and adjectives."""
    if word.endswith(("s", "x")):
        return word
    if word.endswith("al"):
        return word[:-1] + "ux"
    return word + ("x" if word.endswith("eau") else "s")


def inflect(adjective, noun, many):
    """The adjective's French form beside the noun, or said of it."""
    form = adjective.feminine if noun.gender == "f" else adjective.fr
    return french_plural(form) if many else form


def together(*parts):
    """Parts (English, French, ...) in a row -> one (English, French)."""
    return tuple(" ".join(part[k] for part in parts) for k in (0, 1))


def fitting_adjectives(draft, noun):
    """Those that suit the noun and do not stand in the sentence yet."""
    fitting = [a for a in PAIR_ADJECTIVES if noun.kind in a.kinds]
    return [a for a in fitting if a.en not in draft.others]


def choose_adjectives(draft, noun, most):
    """Up to two; of two, one stands before the French noun and one after it."""
    number = min(most, draft.rng.choice([0, 1, 1, 2]))
    chosen = draft.rng.sample(fitting_adjectives(draft, noun), number)
    if len({a.place for a in chosen}) < len(chosen):
        chosen.pop()
    draft.links.extend((a.en, noun.en) for a in chosen)
    draft.others.extend(a.en for a in chosen)
    return sorted(chosen, key=PAIR_ADJECTIVES.index)


def choose_article(draft, noun, many, without):
    """(English, French) article."""
    without = without | ({"my", "his", "her"} if noun.kind in "pl" else set())
    column = 2 if many else "mf".index(noun.gender)
    fitting = [(en, fr[column]) for en, fr in ARTICLES.items() if en not in without]
    return draft.rng.choice([pair for pair in fitting if pair[1] != "-"])


def noun_phrase(draft, kinds, without=frozenset(), negated=False, most=2):
    """Such as "the small black dog"; "not a dog" is "pas de chien" in French."""
    fitting = [n for n in PAIR_NOUNS if n.kind in kinds and n.en not in draft.nouns]
    noun, many = draft.rng.choice(fitting), draft.rng.random() < 0.4
    draft.nouns.append(noun.en)
    without = without | UNCOUNTED if negated else without
    en, fr = choose_article(draft, noun, many, without)
    adjectives = choose_adjectives(draft, noun, most)
    before = [inflect(a, noun, many) for a in adjectives if a.place == "before"]
    after = [inflect(a, noun, many) for a in adjectives if a.place == "after"]
    if not many and noun.fr[0] in VOWELS:
        before = [BEFORE_VOWEL.get(word, word) for word in before]
    if negated and en == "a" or before and en == "some":
        fr = "de"
    english = [*(a.en for a in adjectives), add_s(noun.en) if many else noun.en]
    if en == "a" and english[0][0] in "aeiou":
        en = "an"
    french = [fr, *before, french_plural(noun.fr) if many else noun.fr, *after]
    return Phrase(" ".join([en, *english]), " ".join(french), many, noun)


def subject_of(draft, verb):
    """Who does it: a noun phrase, or he, she, they."""
    if draft.rng.random() < 0.2:
        return draft.rng.choice(SUBJECTS)
    return noun_phrase(draft, verb.subjects)


def act(draft, verb, subject, negated=False, pronoun=""):
    """(English, French) verb; the French one takes the pronoun, le, la or les."""
    draft.others.append(verb.en)
    english = verb.en if subject.many or negated else add_s(verb.en)
    french = f"{pronoun} {verb.many if subject.many else verb.one}".strip()
    if negated:
        return f"{'do' if subject.many else 'does'} not {english}", f"ne {french} pas"
    return english, french


def object_of(draft, verb, kinds, negated=False):
    """What it is done to."""
    without = frozenset(["a", "some"] if verb.en == "like" else [])
    thing = noun_phrase(draft, kinds, without, negated)
    draft.links.append((verb.en, thing.noun.en))
    return thing


def place_of(draft):
    """In the old garden."""
    return together(draft.rng.choice(FRENCH_PLACES), noun_phrase(draft, "l", UNCOUNTED))


def see(draft):
    """The woman (does not) see the small dogs."""
    verb, negated = draft.rng.choice(PAIR_VERBS), draft.rng.random() < 0.5
    subject = subject_of(draft, verb)
    thing = object_of(draft, verb, verb.objects, negated)
    return together(subject, act(draft, verb, subject, negated), thing)


def see_them(draft):
    """The woman (does not) see him in the garden."""
    verb = draft.rng.choice([v for v in PAIR_VERBS if "p" in v.objects])
    subject, negated = subject_of(draft, verb), draft.rng.random() < 0.5
    en, fr = draft.rng.choice([("him", "le"), ("her", "la"), ("them", "les")])
    english, french = act(draft, verb, subject, negated, fr)
    return together(subject, (f"{english} {en}", french), place_of(draft))


def see_and_buy_it(draft):
    """The woman sees a hat and buys it; the woman sees a hat but does not buy it."""
    first, second = draft.rng.sample(PAIR_VERBS, 2)
    subjects = set(first.subjects) & set(second.subjects)
    objects = set(first.objects) & set(second.objects) - {"p"}
    if not (subjects and objects):
        return see_and_buy_it(draft)
    subject, negated = noun_phrase(draft, subjects, most=1), draft.rng.random() < 0.5
    thing = object_of(draft, first, objects)
    draft.links.append((second.en, thing.noun.en))
    it = "les" if thing.many else "le" if thing.noun.gender == "m" else "la"
    english, french = act(draft, second, subject, negated, it)
    then = (f"{english} {'them' if thing.many else 'it'}", french)
    link = ("but", "mais") if negated else ("and", "et")
    return together(subject, act(draft, first, subject), thing, link, then)


def give(draft):
    """The man gives the apple to the queen."""
    verb = draft.rng.choice(PAIR_GIVING)
    subject, thing = subject_of(draft, verb), object_of(draft, verb, verb.objects)
    person = noun_phrase(draft, "p", UNCOUNTED, most=1)
    return together(subject, act(draft, verb, subject), thing, ("to", "à"), person)


def be(draft):
    """These red hats are (not) expensive."""
    negated, without = draft.rng.random() < 0.5, frozenset(["a", "some"])
    subject = noun_phrase(draft, "paftl", without)
    noun, many = subject.noun, subject.many
    adjective = draft.rng.choice(fitting_adjectives(draft, noun))
    draft.links.append((adjective.en, noun.en))
    draft.others.append(adjective.en)
    en, fr = ("are", "sont") if many else ("is", "est")
    verb = (f"{en} not", f"ne {fr} pas") if negated else (en, fr)
    return together(subject, verb, (adjective.en, inflect(adjective, noun, many)))


def stay(draft):
    """The dog (does not) sleep near the church."""
    verb, negated = draft.rng.choice(PAIR_STAYING), draft.rng.random() < 0.5
    subject = subject_of(draft, verb)
    return together(subject, act(draft, verb, subject, negated), place_of(draft))


PAIR_PLANS = [see, see, see_them, see_and_buy_it, see_and_buy_it, give, be, stay]
PAIR_WORDS = [*PAIR_NOUNS, *PAIR_ADJECTIVES, *PAIR_VERBS, *PAIR_GIVING, *PAIR_STAYING]
NUMBER = {word.en: k for k, word in enumerate(PAIR_WORDS)}
TRAIN, VALIDATION, TEST = range(3)


def kept_for(other, noun):
    """The part that gets this pair of words; validation and test get 1 in 14 each."""
    return {0: TEST, 1: VALIDATION}.get((NUMBER[other] + NUMBER[noun]) % 14, TRAIN)


def part_of(draft):
    """The part that a sentence may stand in, or None."""
    if all(kept_for(a, b) == TRAIN for a in draft.others for b in draft.nouns):
        return TRAIN
    linked = {kept_for(*link) for link in draft.links} - {TRAIN}
    return linked.pop() if len(linked) == 1 else None


def finish(english, french):
    """What sounds do where two French words meet; capitals and full stops."""
    for pattern, replacement in SOUNDS:
        french = re.sub(pattern, replacement, french)
    return tuple(text[0].upper() + text[1:] + "." for text in (english, french))


def en_fr_tsv(count=6000, shortest=4, longest=12, seed=3):
    """The file's text: `count` pairs, 80 % training, 10 % validation, 10 % test."""
    rng, seen, parts = random.Random(seed), set(), ([], [], [])
    room = [count * 8 // 10, count // 10, count // 10]
    while any(room):
        draft = Draft(rng, [], [], [])
        english, french = finish(*rng.choice(PAIR_PLANS)(draft))
        part = part_of(draft)
        fits = shortest <= len(english.split()) <= longest and english not in seen
        if fits and part is not None and room[part]:
            seen.add(english)
            room[part] -= 1
            parts[part].append(f"{english}\t{french}\n")
    return "".join(line for part in parts for line in part)


FILES = {
    "reviews.csv": reviews_csv,
    "tagged.conllu": tagged_conllu,
    "en-fr.tsv": en_fr_tsv,
}


def main(argv=None):
    """Write the files, or compare with --check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args(argv).check
    status = 0
    for name, make in FILES.items():
        path, data = HERE / name, make().encode()
        if not check:
            path.write_bytes(data)
        elif not path.is_file() or path.read_bytes() != data:
            print(f"{name} is not what this script writes; run it without --check")
            status = 1
    ceiling = left_to_right_ceiling(tagged_sentences())
    print(f"tagged.conllu: from left to right at most {ceiling:.4f} of the words")
    return status


if __name__ == "__main__":
    sys.exit(main())
