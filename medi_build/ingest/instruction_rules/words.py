"""Words that definitions of Super-NI tasks use for texts and for requests."""

NOUNS = frozenset(
    """
    abstract action actions adjective adverb advertisement alternative alternatives anecdote answer answers argument
    arguments article articles aspect aspects background beginning bio biography blank body caption captions case
    cases category character characters choices city claim clarification clause clue code command comment commentary
    comments completion completions concept concepts concern context conversation conversations correction country
    criteria data date debate definition description descriptions directions diagnosis dialog dialogs dialogue
    dialogues document documents draft email emotion ending entities entity equation essay event events example
    excerpt explanation expression fact facts formula fragment fragments function gender goal head headline hint
    history hypothesis idea index inference inferences information inquiries inquiry instruction instructions integer
    integers intent item joke keyphrase keys keyword keywords label lecture letter letters line link list lists
    location lyrics matrix meaning middle middles message messages name names narrative news note noun number numbers
    object objects occupation operation option options outcome page pair pairs paper paragraph paragraphs paraphrase
    paraphrases part parts passage passages password person personality phrase phrases poem point polarity position
    post posts premise problem problems procedure process profession profile program prompt pronoun proposal puzzle
    quantity queries query question questions quote rating reason reasons recipe reference references relation
    relationship reply report request response responses review reviews riddle rule sample scenario scene scenes
    sentence sentences sequence set sets situation sketch sms snippet snippets song span speech stanza statement
    statements step steps stories story string strings subject subtext summaries summary symptom table tag tail target
    tense term terms text texts theme time title titles token topic translation triple triples triplet tuple tuples
    tweet tweets update url utterance utterances value verb verbs verse word words year
    """.split()  # noqa: SIM905
)
"""They name a text or a part of one; the last word of a text type has to be among them."""

VERBS = frozenset(
    """
    add alter annotate answer apply arrange ask assess assign assume calculate categorise categorize change check
    choose classify combine come compare complete compose compute concatenate construct construe continue convert
    correct count craft create decide decompose deduce define describe detect determine detoxify develop devise
    discover distinguish divide edit elaborate estimate evaluate examine expand explain express extract figure fill
    find form formulate gauge generate give group guess highlight identify imagine improve indicate infer insert
    interpret judge justify label link list localize locate make map mark match merge modify multiply name obtain
    order output paraphrase parse perform pick predict prepare print produce propose provide rank rate rearrange
    recognise recognize recommend reformulate remove reorder repeat rephrase replace report resolve restate retrieve
    return reverse rewrite round say score select separate shorten simplify solve sort specify split state
    substitute subtract suggest sum summarise summarize swap tag tell transcribe transform translate turn understand
    validate verify write
    """.split()  # noqa: SIM905
)
"""Requests begin with one of them."""
