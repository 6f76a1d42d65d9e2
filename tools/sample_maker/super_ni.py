"""Super-NI's form: task files with 14 top-level keys and instances of one input and a list of outputs."""

from typing import Any

from sample_maker.material import capital, cells, identifier, number, pick, read_sections, shuffled
from sample_maker.world import World

MONTHS = ("January", "February", "March", "May", "June", "July", "September", "October", "December")
Row = tuple[str, list[str]]


def task(name: str, facts: dict[str, Any], rows: list[Row]) -> dict[str, Any]:
    """A task file. ``facts`` gives Definition, Categories, Domains, Reasoning and a wrong output to warn of."""
    (good_input, good_output), wrong = rows[0], facts["wrong"]
    prefix = name.split("_", maxsplit=1)[0]
    return {
        "Contributors": ["medi"],
        "Source": ["written for this project"],
        "URL": [""],
        "Categories": [facts["category"]],
        "Reasoning": facts.get("reasoning", []),
        "Definition": [facts["definition"]],
        "Input_language": ["English"],
        "Output_language": ["English"],
        "Instruction_language": ["English"],
        "Domains": facts["domains"],
        "Positive Examples": [
            {"input": good_input, "output": good_output[0], "explanation": "This is what the task asks for."}
        ],
        "Negative Examples": [
            {"input": good_input, "output": wrong, "explanation": "This does not follow from the input."}
        ],
        "Instances": [
            {"id": f"{prefix}-{identifier(name, place, text)}", "input": text, "output": outputs}
            for place, (text, outputs) in enumerate(rows)
        ],
        "Instance License": ["Apache 2.0"],
    }


def _classes(prefix: str, notes: dict[str, list[str]]) -> list[str]:
    names = [heading.removeprefix(f"{prefix} ") for heading in notes if heading.startswith(f"{prefix} ")]
    return [name for name in names if not name.endswith("tails")]


def moods(notes: dict[str, list[str]]) -> list[Row]:
    """Diary notes of four moods, some with a comment; plus one empty note and a class with a single row."""
    rows: list[Row] = []
    for mood in _classes("mood", notes):
        tails = notes[f"mood {mood} tails"]
        for place, event in enumerate(notes[f"mood {mood}"]):
            text = f"{event} {pick(tails, 'tail', event)}" if place % 2 else event
            rows.append((text, [mood]))
    rows = shuffled(rows, "mood")
    rows.insert(40, ("   ", ["sad"]))
    rows.append(("Well, I did not see that coming: the lighthouse has been painted pink overnight.", ["surprised"]))
    return rows


def headlines(notes: dict[str, list[str]], world: World) -> list[Row]:
    """Headlines of six topics about the towns of the archipelago."""
    towns = [entity.title for entity in world.entities if entity.kind == "town"]
    rows: list[Row] = []
    for topic in _classes("headlines", notes):
        for place, template in enumerate(notes[f"headlines {topic}"]):
            for copy in range(2 if place % 4 == 0 else 1):
                key = ("headline", template)
                names = shuffled(towns, *key)
                month = shuffled(MONTHS, *key, "month")[copy]
                text = template.format(town=names[copy], town2=names[copy + 3], month=month)
                rows.append((text, [topic]))
    return shuffled(rows, "headlines")


def requests(notes: dict[str, list[str]]) -> list[Row]:
    """Messages to a caretaker or help desk of three degrees of urgency; some leave the urgency unsaid."""
    rows: list[Row] = []
    for urgency in _classes("urgency", notes):
        tails = notes[f"urgency {urgency} tails"]
        for place, problem in enumerate(notes[f"urgency {urgency}"]):
            for copy in range(2 if place % 2 else 1):
                text = problem.format(n=3 + 7 * copy + number("room", problem) % 7)
                tail = pick(tails, "tail", problem)
                rows.append((f"{text} {tail}" if copy or place % 4 == 0 else text, [urgency]))
    return shuffled(rows, "urgency")


def tags(notes: dict[str, list[str]], world: World) -> list[Row]:
    """Reports to a town office with all the tags that fit, two or three; one report stands there twice."""
    towns = [entity.title for entity in world.entities if entity.kind == "town"]
    lines = [(line, tag) for tag in _classes("tags", notes) if tag != "joiners" for line in notes[f"tags {tag}"]]
    rows: list[Row] = []
    for copy in range(3):
        for place, (line, tag) in enumerate(shuffled(lines, "tags", copy)):
            others = [other for other in lines if other[1] != tag]
            second, second_tag = pick(others, "second", copy, line)
            joiner = notes["tags joiners"][(place + copy) % len(notes["tags joiners"])]
            lower = second[0].lower() + second[1:]
            text = joiner.format(a=line, b=second, b2=lower, town=pick(towns, "tag town", copy, line))
            found = [tag, second_tag]
            if place % 6 == 0:
                third, third_tag = pick([o for o in others if o[1] != second_tag], "third", copy, line)
                text, found = f"{text} {third}", [*found, third_tag]
            rows.append((text, found))
    rows = rows[:129]
    rows.append((rows[3][0], ["safety"]))
    return rows


def claim_checks(world: World) -> list[Row]:
    """A passage and a claim about it: yes or no."""
    rows: list[Row] = []
    for fact in shuffled(world.facts, "check")[:120]:
        page = world.pages[fact.entity.title]
        paragraph, _, _ = page.spans[fact.attribute.name]
        true = number("check verdict", fact.key) % 2 == 0
        value = fact.value if true else world.other_value(fact, "check")
        form = pick(range(3), "page", fact.key) + 1 + number("check form", fact.key) % 2
        text = f"Passage: {page.text[paragraph].strip()} Claim: {fact.statement(form, value=value)}"
        rows.append((text, ["yes" if true else "no"]))
    return rows


def reading(world: World) -> list[Row]:
    """A passage and a question about it; the answer, and in some rows a longer form of it."""
    rows: list[Row] = []
    for fact in shuffled(world.facts, "reading")[:110]:
        page = world.pages[fact.entity.title]
        paragraph, _, _ = page.spans[fact.attribute.name]
        asked = capital(fact.question(number("reading form", fact.key)))
        text = f"Passage: {page.text[paragraph].strip()}\nQuestion: {asked}?"
        long = [fact.statement(number("long", fact.key))] if number("two", fact.key) % 3 == 0 else []
        rows.append((text, [fact.value, *long]))
    return rows


def titles() -> list[Row]:
    """Two sentences of general knowledge; one or two titles."""
    rows: list[Row] = []
    for lines in read_sections("topics.txt").values():
        for line in lines:
            title, other, first, second, _ = cells(line)
            rows.append((f"{first} {second}", [title, other] if number("titles", title) % 3 else [title]))
    return shuffled(rows, "titles")


def rewriting() -> list[Row]:
    """Rude requests and two polite forms; as in real files, a few outputs are repeated or blank."""
    sections = read_sections("rewrite.txt")
    rude, polite = sections["rude"], sections["polite"]
    rows: list[Row] = []
    for place, line in enumerate(sections[""]):
        do, doing, why = cells(line)
        parts = {"do": do, "Do": capital(do), "doing": doing, "why": why, "Why": capital(why)}
        for copy in range(2):
            template = rude[(place + 3 * copy) % len(rude)]
            reason = "hy}" in template
            fitting = [form for form in polite if ("hy}" in form) == reason]
            first, second = (form.format(**parts) for form in shuffled(fitting, "polite", do, copy)[:2])
            rows.append((template.format(**parts), [first, second]))
    rows = shuffled(rows, "rewriting")
    for place in (5, 35, 65):
        rows[place] = (rows[place][0], [rows[place][1][0], rows[place][1][0]])
    for place in (12, 47):
        rows[place] = (rows[place][0], [*rows[place][1], ""])
    rows[20] = (rows[20][0], [" "])
    return rows


def tasks(world: World) -> dict[str, dict[str, Any]]:
    """All task files by name."""
    notes = read_sections("notes.txt")
    made = {
        "task9001_sample_note_mood": (MOOD, moods(notes)),
        "task9002_sample_headline_topic": (TOPIC, headlines(notes, world)),
        "task9003_sample_request_urgency": (URGENCY, requests(notes)),
        "task9004_sample_claim_check": (CHECK, claim_checks(world)),
        "task9005_sample_report_tagging": (TAGS, tags(notes, world)),
        "task9006_sample_passage_question": (READING, reading(world)),
        "task9007_sample_title_generation": (TITLES, titles()),
        "task9008_sample_polite_rewriting": (POLITE, rewriting()),
    }
    return {name: task(name, facts, rows) for name, (facts, rows) in made.items()}


MOOD = {
    "category": "Sentiment Analysis",
    "domains": ["Social Media"],
    "reasoning": ["Commonsense Reasoning"],
    "definition": "In this task, you are given a short personal post, such as a line from a diary. Name the emotion "
    "of its writer: happy, sad, angry or anxious.",
    "wrong": "hungry",
}
TOPIC = {
    "category": "Text Categorization",
    "domains": ["News"],
    "definition": "Given a headline of a local newspaper, choose the section it belongs to: sport, politics, business, "
    "science, culture or weather.",
    "wrong": "advertisement",
}
URGENCY = {
    "category": "Intent Identification",
    "domains": ["Miscellaneous"],
    "definition": "You are given a message to a caretaker or a help desk. Decide how soon somebody has to act and "
    "answer with one of: urgent, soon, can wait.",
    "wrong": "never",
}
CHECK = {
    "category": "Fact Verification",
    "domains": ["Wikipedia"],
    "reasoning": ["Reasoning on Objects"],
    "definition": "You are given a passage and a claim. Answer yes if the passage supports the claim, and no if it "
    "contradicts it.",
    "wrong": "maybe",
}
TAGS = {
    "category": "Keyword Tagging",
    "domains": ["Miscellaneous"],
    "definition": "You are given a message from a resident to the town office. Name every tag that fits it: lighting, "
    "roads, water, waste, noise, trees, playgrounds, transport, signs, access, animals, parking.",
    "wrong": "holidays",
}
READING = {
    "category": "Question Answering",
    "domains": ["Wikipedia"],
    "definition": "In this task, you are given a passage and a question about it. Answer the question with words from "
    "the passage.",
    "wrong": "The passage does not say.",
}
TITLES = {
    "category": "Title Generation",
    "domains": ["Natural Science -> School Science Textbooks"],
    "definition": "In this task, you are given a short paragraph. Generate a suitable title for it.",
    "wrong": "A Paragraph",
}
POLITE = {
    "category": "Style Transfer",
    "domains": ["Miscellaneous"],
    "definition": "You are given an impolite message. Rewrite it as a polite one that asks for the same thing.",
    "wrong": "No.",
}
