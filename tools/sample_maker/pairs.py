"""The forms of sentence-transformers' embedding training data: pairs, triplets, sets, queries with lists, scores."""

from typing import Any

from sample_maker.material import capital, cells, number, pick, read_sections, shuffled
from sample_maker.world import World

PARAPHRASES, CAPTIONS, SCORED = 120, 90, 110
SEASONS = ("spring", "summer", "autumn", "winter")
ENTITY_QUERIES = (
    "what is {name}",
    "{name} sorrel isles",
    "facts about {name}",
    "{name} in short",
    "tell me about {name}",
)
SIDES = ("north", "south", "east", "west")
PLURALS = ("two ", "three ", "twins ", "a pair of ")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Saturday")


def paraphrases(world: World) -> list[list[str]]:
    """``["a", "b"]``: one fact in two forms. One pair says the same twice, which teaches nothing."""
    rows = []
    for fact in shuffled(world.facts, "paraphrase")[:PARAPHRASES]:
        form = number("paraphrase form", fact.key)
        rows.append([fact.statement(form), fact.statement(form + 1 + form // 3 % 2)])
    rows.insert(60, ["The tide waits for nobody.", "The tide waits for nobody."])
    return rows


def entailment() -> list[list[str]]:
    """``["anchor", "positive", "negative"]``: what follows from a scene, and what contradicts it."""
    sections = read_sections("scenes.txt")
    people = [cells(line) for line in sections["people"]]
    rows = []
    for place, line in enumerate(sections["events"]):
        event, follows, contradicts = cells(line)
        for copy in range(6):
            person, general = people[(7 * place + copy) % len(people)]
            rows.append([f"{person} {event}.", f"{capital(general)} {follows}.", f"{capital(general)} {contradicts}."])
    return shuffled(rows, "entailment")


def captions() -> list[dict[str, Any]]:
    """``{"set": [...]}``: three to five captions of one scene. One set has a single member."""
    sections = read_sections("scenes.txt")
    who, does, where = ([cells(line, " / ") for line in sections[name]] for name in ("who", "does", "where"))
    combinations = [(a, b, c) for a in range(len(who)) for b in range(len(does)) for c in range(len(where))]
    chosen = shuffled(combinations, "captions")[:CAPTIONS]
    rows = [{"set": _captions(who[a], does[b], where[c], (a, b, c))} for a, b, c in chosen]
    rows.insert(33, {"set": ["Café chairs stacked under a torn awning ."]})
    return rows


def _captions(who: list[str], does: list[str], where: list[str], key: tuple[int, int, int]) -> list[str]:
    made = []
    for form in range(3 + number("size", key) % 3):
        subject, action, place = (pick(part, "caption", key, form, i) for i, part in enumerate((who, does, where)))
        plural = subject.startswith(PLURALS)
        told = _continuous(action)
        shapes = (
            f"{subject} {'are' if plural else 'is'} {told} {place} .",
            f"{subject} {told} {place}",
            f"{place} , {subject} {'are' if plural else 'is'} {told} .",
        )
        made.append(capital(shapes[(form + key[0]) % 3]))
    return list(dict.fromkeys(made))


def _continuous(action: str) -> str:
    """``eat ice cream`` -> ``eating ice cream``."""
    verb, _, rest = action.partition(" ")
    stem = verb[:-1] if verb.endswith("e") else f"{verb}{verb[-1]}" if verb in ("sip", "snap") else verb
    return f"{stem}ing {rest}"


def faq() -> list[dict[str, Any]]:
    """``{"query", "pos": [...]}``: one kind of question for every service, so that the hard negatives are close."""
    sections = read_sections("scenes.txt")
    answers = {cells(line)[0]: cells(line)[1].split(" / ") for line in sections["faq answers"]}
    rows: list[dict[str, Any]] = []
    for line in sections["faq questions"]:
        kind, forms = cells(line)
        for place, service in enumerate(sections["faq services"]):
            name, papers, goods = cells(service)
            slots = {
                "s": name,
                "p": papers,
                "x": goods,
                "season": pick(SEASONS, "season", service, kind),
                "h1": f"{8 + number('from', service) % 3} am",
                "h2": f"{5 + number('to', service, kind) % 4} pm",
                "age": 6 + place,
                "n": 4 + number("n", service, kind) % 9,
                "pct": 10 + 5 * (number("pct", service) % 4),
                "side": pick(SIDES, "side", service),
                "day": pick(DAYS, "day", service),
            }
            asked = forms.split(" / ")[(place + number("ask", kind)) % 3].format(**slots)
            told = [capital(form.format(**slots)) for form in answers[kind]]
            rows.append({"query": asked, "pos": told if number("both", asked) % 3 == 0 else [pick(told, asked)]})
    return shuffled(rows, "faq")


def search(world: World) -> list[dict[str, Any]]:
    """``{"query", "pos": [...], "neg": [...]}``: a search, texts that help, texts of the same field that do not."""
    rows: list[dict[str, Any]] = []
    for lines in read_sections("topics.txt").values():
        topics = [cells(line) for line in lines]
        for title, _, first, second, query in topics:
            others = shuffled([topic for topic in topics if topic[0] != title], "search", title)
            negatives = [pick(other[2:4], "negative", query) for other in others[: 1 + number("neg", query) % 2]]
            positives = [first, second] if number("pos", query) % 2 else [first]
            rows.append({"query": query, "pos": positives, "neg": negatives})
    for entity in shuffled(world.entities, "search entity")[:30]:
        page = world.pages[entity.title]
        others = [other for other in world.entities if other.kind == entity.kind and other is not entity]
        negative = world.pages[pick(others, "search other", entity.title).title].text[1].strip()
        query = pick(ENTITY_QUERIES, "query", entity.title).format(name=entity.ref)
        rows.append({"query": query, "pos": [page.text[1].strip()], "neg": [negative]})
    return shuffled(rows, "search rows")


def scored(world: World) -> list[tuple[str, str, float]]:
    """Sentence pairs with a score from 0 to 1: same fact, other value, other attribute, other kind."""
    rows: list[tuple[str, str, float]] = []
    for place, fact in enumerate(shuffled(world.facts, "scored")[:SCORED]):
        form = number("scored form", fact.key)
        first = fact.statement(form)
        rows.append((first, fact.statement(form + 1), 0.9 + number("high", fact.key) % 11 / 100))
        if place % 4 == 0:
            wrong = fact.statement(form + 2, value=world.other_value(fact, "scored"))
            rows.append((first, wrong, 0.3 + number("low", fact.key) % 11 / 100))
        if place % 11 == 0:
            near = pick([f for f in world.facts_of(fact.entity) if f is not fact], "near", fact.key)
            rows.append((first, near.statement(form), 0.55 + number("middle", fact.key) % 11 / 100))
        if place % 10 == 0:
            far = pick([f for f in world.facts if f.entity.kind != fact.entity.kind], "far", fact.key)
            rows.append((first, far.statement(form), number("none", fact.key) % 11 / 100))
    return [(a, b, round(score, 2)) for a, b, score in rows]
