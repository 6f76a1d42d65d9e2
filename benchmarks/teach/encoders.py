"""The encoders that are trained: three layers of the embedded one, and its word vectors alone."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertModel

TOKENS_PER_FORWARD = 2048


class Cut(nn.Module):
    """The first layers of a BERT on the first tokens of a text, the mean over them, unit length.

    Its word vectors stay as they are, and nothing is dropped at random.
    """

    def __init__(self, bert: BertModel, layers: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.bert = copy.deepcopy(bert)
        for module in self.bert.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        self.bert.encoder.layer = self.bert.encoder.layer[:layers]
        self.bert.embeddings.requires_grad_(False)

    def forward(self, texts: list[list[int]]) -> Tensor:
        """Unit vectors [n, d], computed in chunks of like length."""
        texts = [text[: self.window] for text in texts]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        parts, start = [], 0
        while start < len(order):
            stop = start + 1
            while stop < len(order) and (stop + 1 - start) * len(texts[order[stop]]) <= TOKENS_PER_FORWARD:
                stop += 1
            width = len(texts[order[stop - 1]])
            ids = torch.tensor([texts[i] + [0] * (width - len(texts[i])) for i in order[start:stop]])
            mask = (torch.arange(width) < torch.tensor([[len(texts[i])] for i in order[start:stop]])).float()
            states = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
            parts.append(functional.normalize((states * mask[..., None]).sum(dim=1), dim=-1))
            start = stop
        return torch.cat(parts)[torch.argsort(torch.tensor(order))]


class Words(nn.Module):
    """The mean of a text's word vectors (sentence-transformers' StaticEmbedding): a run takes seconds."""

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag.from_pretrained(
            bert.embeddings.word_embeddings.weight.detach().clone(), mode="mean", freeze=False, sparse=True
        )

    def forward(self, texts: list[list[int]]) -> Tensor:
        """Unit vectors [n, d]."""
        lengths = torch.tensor([len(text) for text in texts])
        flat = torch.tensor([token for text in texts for token in text])
        return functional.normalize(self.words(flat, torch.cumsum(lengths, 0) - lengths), dim=-1)
