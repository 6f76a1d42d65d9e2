"""The invented archipelago: entities, their facts, and one page of text for each entity."""

from dataclasses import dataclass, field
from typing import Any

from sample_maker.material import capital, cells, pick, read_sections, shuffled

NOUNS = {
    "town": "the town", "ferry": "the ferry", "museum": "the museum", "lighthouse": "the lighthouse",
    "plant": "the plant", "bird": "the bird", "mineral": "the stone", "dish": "the dish", "festival": "the festival",
}  # fmt: skip
HEADINGS = {
    "town": ("History and people", "Trade and sights"),
    "ferry": ("Construction", "Service"),
    "museum": ("Collection", "Building and visits"),
    "lighthouse": ("History", "Tower and light"),
    "plant": ("Appearance", "Uses and ecology"),
    "bird": ("Breeding", "Behaviour"),
    "mineral": ("Occurrence", "Properties"),
    "dish": ("Origin", "Preparation"),
    "festival": ("Tradition", "Customs"),
}
FIRST_PAGE_ID = 900101


@dataclass(frozen=True)
class Attribute:
    """One kind of fact: sentences stating it, questions for it, and the question as asked in a chat."""

    name: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    chat: str


@dataclass(frozen=True)
class Entity:
    """One thing of the archipelago with a value for each attribute of its kind."""

    kind: str
    title: str
    ref: str
    values: tuple[str, ...]
    remark: str


@dataclass(frozen=True)
class Fact:
    """One attribute of one entity."""

    entity: Entity
    attribute: Attribute
    value: str

    @property
    def key(self) -> str:
        """Names the fact, for choices that belong to it."""
        return f"{self.entity.title}/{self.attribute.name}"

    def statement(self, form: int, subject: str | None = None, value: str | None = None) -> str:
        """The fact as a sentence, in one of three forms, if asked for with another subject or value."""
        template = self.attribute.statements[form % len(self.attribute.statements)]
        if subject and template.startswith("{name} "):
            subject = "she" if self.entity.kind == "ferry" else "it"
        return capital(template.format(name=subject or self.entity.ref, v=value or self.value, bare=self.entity.title))

    def question(self, form: int) -> str:
        """A question that the value answers."""
        return self.attribute.questions[form % len(self.attribute.questions)].format(name=self.entity.ref)


@dataclass
class Page:
    """A page of the knowledge source; ``spans`` says where each fact stands (paragraph, start, end, sentence)."""

    id: str
    entity: Entity
    text: list[str]
    sections: list[str]
    spans: dict[str, tuple[int, int, int]] = field(default_factory=dict)


class World:
    """All entities, facts and pages."""

    def __init__(self) -> None:
        self.sections = read_sections("world.txt")
        self.attributes: dict[str, list[Attribute]] = {kind: self._attributes(kind) for kind in NOUNS}
        self.entities = [entity for kind in NOUNS for entity in self._entities(kind)]
        self.facts = [
            Fact(entity, attribute, value)
            for entity in self.entities
            for attribute, value in zip(self.attributes[entity.kind], entity.values, strict=True)
        ]
        self.pages = {
            entity.title: self._page(entity, str(FIRST_PAGE_ID + number)) for number, entity in enumerate(self.entities)
        }

    def lines(self, section: str, kind: str) -> list[str]:
        """The lines of a section that belong to one kind of entity."""
        return [line.removeprefix(f"{kind}: ") for line in self.sections[section] if line.startswith(f"{kind}: ")]

    def facts_of(self, entity: Entity) -> list[Fact]:
        """The facts of one entity, in the order of its kind's attributes."""
        return [fact for fact in self.facts if fact.entity is entity]

    def other_value(self, fact: Fact, *key: object) -> str:
        """A wrong value for the fact, true of another entity of the kind."""
        same = [f.value for f in self.facts if f.entity.kind == fact.entity.kind and f.attribute is fact.attribute]
        return pick([value for value in same if value != fact.value], *key, fact.key)

    def _attributes(self, kind: str) -> list[Attribute]:
        made = []
        for heading, lines in self.sections.items():
            first, _, name = heading.partition(" ")
            if first == kind and name != "entities":
                by = {mark: tuple(line[3:] for line in lines if line.startswith(f"{mark}: ")) for mark in "sqw"}
                made.append(Attribute(name, by["s"], by["q"], by["w"][0]))
        return made

    def _entities(self, kind: str) -> list[Entity]:
        rows = [cells(line) for line in self.sections[f"{kind} entities"]]
        return [Entity(kind, row[0], row[1], tuple(row[2:-1]), row[-1]) for row in rows]

    def _page(self, entity: Entity, page_id: str) -> Page:
        page = Page(page_id, entity, [f"{entity.title}\n"], ["Section::::Abstract."])
        lead = capital(pick(self.lines("leads", entity.kind), "lead", entity.title).format(name=entity.ref))
        facts = self.facts_of(entity)
        first, second = (f"Section::::{heading}." for heading in HEADINGS[entity.kind])
        self._paragraph(page, "Section::::Abstract.", [lead, *facts[:2]])
        self._heading(page, first)
        self._paragraph(page, first, [*facts[2:4], entity.remark])
        self._heading(page, second)
        self._paragraph(page, second, list(facts[4:]))
        self._heading(page, "Section::::See also.")
        others = [other for other in self.entities if other.kind == entity.kind and other is not entity]
        for other in shuffled(others, "see", entity.title)[:2]:
            page.text.append(f"BULLET::::- {other.title}\n")
            page.sections.append("Section::::See also.")
        return page

    def _heading(self, page: Page, section: str) -> None:
        page.text.append(f"{section}\n")
        page.sections.append(section)

    def _paragraph(self, page: Page, section: str, parts: list[Any]) -> None:
        """Append a paragraph and remember where its facts stand; only its first sentence names the entity."""
        text = ""
        for place, part in enumerate(parts):
            subject = None if place == 0 else NOUNS[page.entity.kind]
            sentence = part if isinstance(part, str) else part.statement(pick(range(3), "page", part.key), subject)
            start = len(text) + (1 if text else 0)
            text = f"{text} {sentence}" if text else sentence
            if isinstance(part, Fact):
                page.spans[part.attribute.name] = (len(page.text), start, len(text))
        page.text.append(f"{text}\n")
        page.sections.append(section)

    def anchors(self, page: Page) -> list[dict[str, Any]]:
        """Links to the pages of towns that the text names, in KILT's form."""
        found = []
        for number, paragraph in enumerate(page.text[1:], 1):
            for town in (entity for entity in self.entities if entity.kind == "town"):
                start = paragraph.find(town.title)
                if start >= 0 and town is not page.entity and not paragraph.startswith("BULLET::::"):
                    found.append(
                        {
                            "text": town.title,
                            "href": town.title.replace(" ", "%20"),
                            "paragraph_id": number,
                            "start": start,
                            "end": start + len(town.title),
                        }
                    )
        return sorted(found, key=lambda anchor: (anchor["paragraph_id"], anchor["start"]))
