"""KILT's form: a knowledge source of pages, and questions, claims and dialogues that point into it."""

from typing import Any

from sample_maker.material import capital, number, pick, shuffled
from sample_maker.world import Fact, World

QUESTIONS, CLAIMS, DIALOGUES = 150, 130, 80
REPLIES = (
    "I looked it up.",
    "I happen to know that.",
    "Good question!",
    "Yes, I can help with that.",
    "I read about it once.",
)


def knowledge_source(world: World) -> list[dict[str, Any]]:
    """One page per entity."""
    return [
        {
            "_id": page.id,
            "wikipedia_id": page.id,
            "wikipedia_title": page.entity.title,
            "text": page.text,
            "anchors": world.anchors(page),
            "categories": f"Sorrel Isles,{capital(page.entity.kind)} of the Sorrel Isles",
            "wikidata_info": {},
            "history": {"pageid": int(page.id), "url": f"https://example.org/sorrel/{page.id}"},
        }
        for page in world.pages.values()
    ]


def _provenance(world: World, fact: Fact, answer_only: bool = False) -> dict[str, Any]:
    """Where the page states the fact: the whole sentence, or only the value in it."""
    page = world.pages[fact.entity.title]
    paragraph, start, end = page.spans[fact.attribute.name]
    if answer_only:
        start = page.text[paragraph].index(fact.value, start)
        end = start + len(fact.value)
    return {
        "wikipedia_id": page.id,
        "title": fact.entity.title,
        "start_paragraph_id": paragraph,
        "start_character": start,
        "end_paragraph_id": paragraph,
        "end_character": end,
        "bleu_score": 1.0,
        "section": page.sections[paragraph],
    }


def _stated_plainly(world: World, fact: Fact) -> bool:
    """Whether the page holds the value letter for letter (not capitalised at the start of a sentence)."""
    page = world.pages[fact.entity.title]
    paragraph, start, end = page.spans[fact.attribute.name]
    return fact.value in page.text[paragraph][start:end]


def questions(world: World) -> list[dict[str, Any]]:
    """Natural questions; answer and evidence share an ``output`` item, stand in two, or come with an alias."""
    usable = [fact for fact in world.facts if _stated_plainly(world, fact)]
    rows = []
    for fact in shuffled(usable, "nq")[:QUESTIONS]:
        short = {"answer": fact.value, "provenance": [_provenance(world, fact, answer_only=True)]}
        long = _provenance(world, fact)
        form = number("nq form", fact.key) % 3
        if form == 0:
            output = [{"answer": fact.value, "provenance": [long]}]
        elif form == 1:
            meta = {"yes_no_answer": "NONE", "annotation_id": number("annotation", fact.key)}
            output = [short, {"provenance": [{**long, "meta": meta}]}]
        else:
            output = [short, {"answer": fact.statement(form)}]
        asked = fact.question(number("nq question", fact.key))
        rows.append({"id": str(number("nq id", fact.key) >> 1), "input": asked, "output": output})
    return rows + _repeated_questions(world) + [{**rows[7], "input": f"please tell me {rows[7]['input']}"}]


def _repeated_questions(world: World) -> list[dict[str, Any]]:
    """One question asked twice, with another right page each time."""
    rows = []
    for title, name in (("Marsh lanternwort", "use"), ("Storm campion", "use")):
        fact = next(f for f in world.facts if f.key == f"{title}/{name}")
        output = [{"answer": title, "provenance": [_provenance(world, fact)]}]
        asked = "name a wild plant of the isles that gives colour"
        rows.append({"id": str(number("nq repeated", title) >> 1), "input": asked, "output": output})
    return rows


def claims(world: World) -> list[dict[str, Any]]:
    """True and false claims; the page's sentence is the evidence for both. The last has no evidence at all."""
    rows = []
    for fact in shuffled(world.facts, "fever")[:CLAIMS]:
        true = number("verdict", fact.key) % 2 == 0
        value = fact.value if true else world.other_value(fact, "fever")
        # Another form than the page's, so that claim and evidence are not the same sentence.
        claim = fact.statement(pick(range(3), "page", fact.key) + 1 + number("form", fact.key) % 2, value=value)
        output = [{"answer": "SUPPORTS" if true else "REFUTES", "provenance": [_provenance(world, fact)]}]
        rows.append({"id": str(200_000 + len(rows)), "input": claim, "output": output})
    rows.append({"id": "299999", "input": "The Sorrel Isles have a queen.", "output": [{"answer": "REFUTES"}]})
    return rows


def dialogues(world: World) -> list[dict[str, Any]]:
    """Conversations of one or three turns; the answer is the next turn, backed by a page."""
    rows = []
    for fact in shuffled(world.facts, "wow")[:DIALOGUES]:
        entity = fact.entity
        opener = pick(world.lines("openers", entity.kind), "opener", fact.key).format(name=entity.ref)
        turns = [opener]
        form = number("wow form", fact.key)
        if form % 4:
            known = pick([f for f in world.facts_of(entity) if f is not fact], "known", fact.key)
            turns.append(known.statement(form, subject=None))
            turns.append(fact.attribute.chat)
        else:
            turns = [f"{opener} {fact.attribute.chat}"]
        told = f"{pick(REPLIES, 'reply', fact.key)} {fact.statement(form // 4)}"
        output = [{"answer": told, "provenance": [_provenance(world, fact)]}]
        rows.append({"id": f"{identifier_of(fact)}_{len(turns)}", "input": "\n".join(turns), "output": output})
    return rows


def identifier_of(fact: Fact) -> str:
    """An id in the form of a UUID."""
    digits = f"{number('wow', fact.key):016x}{number('wow id', fact.key):016x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
