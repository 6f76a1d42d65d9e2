import pytest
from pydantic import ValidationError

from medi_build.content.instructions import Template, render, render_definition
from medi_build.errors import ContentError


def template(query: str, document: str | None = None, **fields: str | None) -> Template:
    return Template.model_validate(
        {"name": "t", "description": "d", "fields": fields, "phrasings": [{"query": query, "document": document}]}
    )


RETRIEVAL = template(
    "Represent the {% if domain %}{{ domain }} {% endif %}{{ unit }} for retrieving relevant documents",
    "Represent the {% if domain %}{{ domain }} {% endif %}document for retrieval",
    domain="",
    unit=None,
)


def test_published_form_of_nq() -> None:
    [instructions] = render(RETRIEVAL, {"domain": "Wikipedia", "unit": "question"}, {}, ";")
    assert instructions.query == "Represent the Wikipedia question for retrieving relevant documents;"
    assert instructions.document == "Represent the Wikipedia document for retrieval;"


def test_empty_domain_leaves_no_gap_and_separator_is_a_setting() -> None:
    [instructions] = render(RETRIEVAL, {"unit": "claim"}, {}, ":")
    assert instructions.query == "Represent the claim for retrieving relevant documents:"


def test_card_wins_over_found_wins_over_default() -> None:
    found = {"domain": "News", "unit": "headline", "not_a_field": "ignored"}
    [by_found] = render(RETRIEVAL, {}, found, ";")
    [by_card] = render(RETRIEVAL, {"unit": "tweet"}, found, ";")
    assert by_found.document == "Represent the News document for retrieval;"
    assert by_card.query == "Represent the News tweet for retrieving relevant documents;"


def test_symmetric_template_uses_one_instruction() -> None:
    [instructions] = render(template("Represent the sentence"), {}, {}, ";")
    assert instructions == ("Represent the sentence;", "Represent the sentence;")


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"unti": "x", "unit": "y"}, "did you mean 'unit'"), ({}, "needs a value for unit")],
)
def test_unknown_and_missing_fields(fields: dict[str, str], message: str) -> None:
    with pytest.raises(ContentError, match=message):
        render(RETRIEVAL, fields, {}, ";")


def test_a_field_that_the_template_does_not_declare_is_an_error() -> None:
    with pytest.raises(ValidationError, match=r"unknown field 'domian' in .* did you mean 'domain'"):
        template("Represent the {% if domain %}{{ domian }}{% endif %} text", domain="")


def test_the_grammar_is_enforced() -> None:
    with pytest.raises(ContentError, match="starts with 'Represent '"):
        render(template("Embed the sentence"), {}, {}, ";")


QUOTING = Template.model_validate(
    {
        "name": "t",
        "description": "d",
        "fields": {"definition": "", "text_type": "text"},
        "phrasings": [{"query": "Represent the {{ text_type }}"}],
        "definition": {"query": "Represent the {{ text_type }} for the following task: {{ definition }}"},
    }
)


def test_a_definition_is_quoted_and_never_run() -> None:
    found = {"definition": "Fill {{ 7 * 7 }} {% for x in y %} {# in #}", "text_type": "post"}
    quoted = render_definition(QUOTING, {}, found, ";")
    assert quoted is not None
    assert quoted.query == f"Represent the post for the following task: {found['definition']};"
    assert quoted.document == quoted.query
    assert render(QUOTING, {}, found, ";")[0].query == "Represent the post;"


def test_without_a_definition_nothing_is_quoted() -> None:
    assert render_definition(QUOTING, {}, {"definition": ""}, ";") is None
    assert render_definition(RETRIEVAL, {"unit": "claim"}, {"definition": "Do it"}, ";") is None


def test_the_form_that_quotes_is_checked_as_others_are() -> None:
    with pytest.raises(ValidationError, match="unknown field 'definiton'"):
        Template.model_validate(QUOTING.model_dump() | {"definition": {"query": "Represent {{ definiton }}"}})


@pytest.mark.parametrize(
    "source",
    [
        "Represent {% for i in range(10**9) %}x{% endfor %}",
        "Represent {{ 'a' * 10**10 }}",
        "Represent {{ ''.__class__.__mro__ }}",
        "Represent {{ cycler.__init__.__globals__ }}",
        "Represent {% set x = 1 %}",
        "Represent {{ name|map('upper') }}",
        "Represent {% include '/etc/passwd' %}",
        "Represent {{ unclosed",
        "Represent " + "x" * 3000,
    ],
)
def test_what_could_run_away_or_escape_is_refused_on_load(source: str) -> None:
    with pytest.raises(ValidationError):
        template(source)
