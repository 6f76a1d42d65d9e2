"""Evaluation data as plain values, one form for each kind of task."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class RetrievalSet:
    """Queries, documents, and which documents are relevant for which query.

    Attributes:
        name: of the folder.
        split: which part of it.
        notes: oddities of the files, counted.
        documents: title ("" for none) and text by id, in the order of the file.
        queries: text by id; those that have judgements.
        qrels: relevance by document id, for each of the queries; documents that the corpus lacks are among them, as
            relevant ones that nothing can find.
    """

    name: str
    split: str
    notes: Mapping[str, int]
    documents: Mapping[str, tuple[str, str]]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    task_type: ClassVar[str] = "Retrieval"

    def texts(self) -> Iterator[tuple[str, str, str]]:
        """Yield (role, id, text) of all that a model is evaluated on; a title stands in front of its text."""
        for name, text in self.queries.items():
            yield "query", name, text
        for name, (title, text) in self.documents.items():
            yield "document", name, f"{title} {text}".strip()


@dataclass(frozen=True)
class StsSet:
    """Pairs of sentences and how similar people found them.

    Attributes:
        name: of the folder.
        split: which part of it.
        notes: oddities of the files, counted.
        ids: of the pairs: their rows in the file, from 1.
        sentences1: one side.
        sentences2: the other.
        scores: finite, on whatever scale.
    """

    name: str
    split: str
    notes: Mapping[str, int]
    ids: tuple[str, ...]
    sentences1: tuple[str, ...]
    sentences2: tuple[str, ...]
    scores: tuple[float, ...]
    task_type: ClassVar[str] = "STS"

    def texts(self) -> Iterator[tuple[str, str, str]]:
        """Yield (role, id, text) of all that a model is evaluated on."""
        for name, first, second in zip(self.ids, self.sentences1, self.sentences2, strict=True):
            yield "sentence1", name, first
            yield "sentence2", name, second


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with a label each.

    Attributes:
        ids: rows in the file, from 1; of mteb's lists ``ROW.PLACE``.
        texts: the texts.
        labels: their labels, as they are written.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class ClassificationSet:
    """Texts with labels, and others to learn the labels from.

    Attributes:
        name: of the folder.
        split: which part of it is classified.
        notes: oddities of the files, counted.
        train: what a classifier over the vectors learns from.
        test: what it is asked.
    """

    name: str
    split: str
    notes: Mapping[str, int]
    train: LabelledTexts
    test: LabelledTexts
    task_type: ClassVar[str] = "Classification"

    def texts(self) -> Iterator[tuple[str, str, str]]:
        """Yield (role, id, text) of what a model is evaluated on; ``train`` is there to be learned from."""
        for name, text in zip(self.test.ids, self.test.texts, strict=True):
            yield "text", name, text


@dataclass(frozen=True)
class ClusteringSet:
    """Texts and the clusters that they belong to.

    Attributes:
        name: of the folder.
        split: which part of it.
        notes: oddities of the files, counted.
        items: texts, and as labels the names of their clusters.
    """

    name: str
    split: str
    notes: Mapping[str, int]
    items: LabelledTexts
    task_type: ClassVar[str] = "Clustering"

    def texts(self) -> Iterator[tuple[str, str, str]]:
        """Yield (role, id, text) of all that a model is evaluated on."""
        for name, text in zip(self.items.ids, self.items.texts, strict=True):
            yield "text", name, text


LocalSet = RetrievalSet | StsSet | ClassificationSet | ClusteringSet
