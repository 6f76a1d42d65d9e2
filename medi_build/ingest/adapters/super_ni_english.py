"""A little English for task definitions: sentences, gerunds, cutting a phrase where it can be cut."""

import re

# Nouns that name a text or a part of one. The last one of a noun phrase has to be among them.
NOUNS = frozenset(
    "abstract advertisement alternative alternatives answer answers anecdote argument arguments article articles "
    "background beginning biography blank body caption captions category choices claim clause code comment comments concept concepts "
    "context conversation conversations correction data date debate definition description descriptions dialog dialogs "
    "dialogue dialogues document documents ending entities entity essay event events example explanation expression fact facts "
    "goal head headline history hypothesis idea index integer integers intent item keyword keywords lecture letter "
    "letters label line list lists matrix meaning message messages name names narrative news note noun number numbers "
    "object objects occupation operation option options outcome page paper paragraph paragraphs passage passages phrase "
    "phrases poem point polarity position post posts premise problem problems procedure process profession profile program "
    "prompt pronoun proposal quantity query question questions quote rating recipe relation relationship report reply request "
    "response responses review reviews rule sample scenario scene sentence sentences sequence set sets situation snippet "
    "sketch snippets span speech statement statements step steps stories story string strings subject subtext summary summaries symptom table "
    "tail target tense term text texts theme time title titles token topic translation triple triples triplet tuple tweet tweets "
    "update url utterance utterances value verb verbs verse word words year adjective adverb reason reasons review "
    "action actions emotion character characters personality hint country city person equation formula function "
    "location inference inferences command instruction instructions sms criteria tuples concern terms keyphrase pair pairs commentary inquiries inquiry queries keys cases case scenes fragment fragments excerpt clue riddle draft diagnosis password puzzle stanza lyrics song email subject joke link tag".split()
)
# Verbs of requests.
VERBS = frozenset(
    "add answer apply arrange assess assign calculate categorize categorise change check choose classify combine come compare "
    "complete compose compute concatenate construct continue convert correct count craft create decide decompose deduce "
    "define describe detect determine develop devise discover distinguish divide edit elaborate estimate evaluate "
    "examine expand explain express extract figure fill find formulate gauge generate give guess highlight identify "
    "imagine improve indicate infer insert interpret judge label list locate make mark match modify multiply name order "
    "paraphrase parse perform pick predict prepare produce propose provide rank rate recognize recognise recommend "
    "remove reorder repeat rephrase replace resolve restate return reverse rewrite round say select separate "
    "shorten simplify solve sort specify split state substitute subtract suggest sum summarize summarise swap tag tell "
    "transform translate turn understand verify write localize reformulate transcribe obtain score construe "
    "rearrange retrieve map annotate assume predict alter justify validate form link detoxify group merge report output print".split()
)
_ABBREVIATIONS = {"e.g.": "eg", "i.e.": "ie", "etc.": "etc", "vs.": "vs", "v.": "vs", "a.m.": "am", "p.m.": "pm"}
_ABBREVIATION = re.compile(r"(?<![\w.])(e\.g\.|i\.e\.|etc\.|vs\.|v\.|[ap]\.m\.)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')]*\s+(?=[\"'(]?[A-Z0-9#])|\n\s*\n|(?<=[a-z])\.(?=[A-Z][a-z])")
_QUOTES = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "`": "'", "\u200b": None, "\\": None})
_DOUBLING = frozenset(("begin", "commit", "cut", "get", "omit", "permit", "plan", "plot", "put", "refer", "run", "set",
                       "sit", "spot", "stop", "submit", "swap", "tag", "win", "sum", "map", "pin", "drop", "infer", "split",
                       "crop", "trim", "skip", "fit", "chat"))  # fmt: skip
_DANGLING = frozenset(
    "a an the and or of in on at to for from with by as that which whether if into about between than is are be was "
    "not using given based such its their his her this these those each every where when while can could would should "
    "may might will has have only also either both one depending whose e.g. ie eg etc so it's containing including "
    "there two among within without per via against but nor".split()
)


def plain(text: str) -> str:
    """Straight quotes, abbreviations without full stops, white space as it reads (blank lines kept)."""
    text = text.translate(_QUOTES)
    text = _ABBREVIATION.sub(lambda match: _ABBREVIATIONS[match.group(1).lower()], text)
    return re.sub(r"[^\S\n]+", " ", re.sub(r"\n(?!\s*\n)(?=\S)", " ", text)).strip()


def sentences(text: str) -> list[str]:
    """The sentences of `plain` text, without their full stops."""
    return [part.strip(" .!\n") for part in _SENTENCE_END.split(text) if part and part.strip(" .!\n")]


def gerund(verb: str) -> str:
    """``write`` -> ``writing``; a gerund stays one.

    Args:
        verb: base form, lower case.
    """
    if verb.endswith("ing") and verb not in ("bring", "string", "sing", "ring"):
        return verb
    if verb.endswith("ie"):
        return f"{verb[:-2]}ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and verb != "be":
        return f"{verb[:-1]}ing"
    return f"{verb}{verb[-1]}ing" if verb in _DOUBLING else f"{verb}ing"


_CLAUSE = re.compile(r",? (?=(?:that|which|who|when|where|by|with|based|from|for|in|on|using|without|while|because|as|so|"
                     r"given|about|between|through|according|depending|after|before|if)\b)|, |; | - | (?=(?:and|or)\b)")  # fmt: skip


def shorten(phrase: str, most: int, least: int = 3) -> str:
    """The phrase up to its last clause boundary within ``most`` words; empty if there is none behind ``least``."""
    if len(phrase.split()) > most:
        ends = [match.start() for match in _CLAUSE.finditer(phrase)]
        fitting = [phrase[:end] for end in ends if least <= len(phrase[:end].split()) <= most]
        phrase = fitting[-1] if fitting else ""
    phrase = without_dangling(phrase)
    last = phrase.split()[-1:]
    return without_dangling(re.sub(r",? (?:and|or) \w+$", "", phrase)) if last and (last[0] in VERBS - NOUNS or last[0].endswith("ing") and " and " + last[0] in phrase) else phrase


def without_dangling(phrase: str) -> str:
    """The phrase without the words at its end that need another behind them."""
    words = phrase.strip(" ,;:-").split()
    if re.search(r"\b(?:what|which|who|how|where) .*\b(?:is|are|was|were|can be|has|have|(?:refers?|related|belongs?|applies) to)$", phrase):
        return " ".join(words)
    while words and words[-1].lower().strip("\"',;:") in _DANGLING:
        words.pop()
    return " ".join(words).rstrip(" ,;:-")
