"""MedMCQA's raw form: one JSON object per line, ``cop`` counts from 1, explanations are sometimes missing."""

from typing import Any

from sample_maker.material import capital, cells, identifier, number, pick, read_sections, shuffled

OPTIONS = ("opa", "opb", "opc", "opd")


def rows() -> list[dict[str, Any]]:
    """One question in each direction for every fact of every group."""
    made = []
    for heading, lines in read_sections("medicine.txt").items():
        subject, topic = cells(heading)
        by = {mark: [line[3:] for line in lines if line.startswith(f"{mark}: ")] for mark in "fbe"}
        facts = [tuple(cells(line)) for line in lines if " | " in line]
        keys, values = ([fact[i] for fact in facts] for i in (0, 1))
        for key, value in facts:
            forward = pick(by["f"], topic, key).format(k=key)
            backward = pick(by["b"], topic, value).format(v=value)
            # One of the two, for the explanation of one would be right for the other, too.
            form = number("explained", key) % 2
            why = capital(by["e"][form].format(k=key, v=value))
            made.append(_row(subject, topic, forward, value, values, why if form == 0 else None))
            made.append(_row(subject, topic, backward, key, keys, why if form == 1 else None))
    return shuffled(made, "medmcqa")


def _row(subject: str, topic: str, question: str, right: str, all_values: list[str], why: str | None) -> dict[str, Any]:
    wrong = shuffled([value for value in all_values if value != right], question)[:3]
    options = shuffled([right, *wrong], "options", question)
    cop = options.index(right) + 1
    announced = f"Ans. is '{'abcd'[cop - 1]}' i.e., {capital(right)}. {why}"
    exp = announced if why and number("announced", question) % 5 == 0 else why
    return {
        "question": question,
        "exp": exp,
        "cop": cop,
        **dict(zip(OPTIONS, map(capital, options), strict=True)),
        "subject_name": subject,
        "topic_name": None if number("topic", question) % 5 else topic,
        "id": identifier("medmcqa", question),
        "choice_type": "multi" if number("choice", question) % 4 == 0 else "single",
    }
