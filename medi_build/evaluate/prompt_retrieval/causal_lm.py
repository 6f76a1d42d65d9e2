"""A causal language model from transformers: labels by likelihood, free text by greedy search, in batches."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medi_build.devices import devices
from medi_build.encode.model_files import find_model
from medi_build.errors import EncoderError, EvaluationError
from medi_build.evaluate.prompt_retrieval.complete import Asked


class CausalModel:
    """Answers prompts with a model of transformers. Satisfies `LanguageModel`.

    Of labels it takes the one with the highest mean log-likelihood of a token, as the public script does with MetaICL's
    "direct" form. Weights are loaded when the first answer is wanted, everything else at once.
    """

    def __init__(
        self,
        name: str,
        *,
        device: str | None = None,
        cache: Path | None = None,
        batch_size: int = 8,
        trust_remote_code: bool = False,
    ) -> None:
        """Find a model and read its configuration and tokenizer.

        Args:
            name: hub id or folder.
            device: as everywhere; of several GPUs the first is used.
            cache: of what the hub gives.
            batch_size: texts of a forward pass.
            trust_remote_code: let code that comes with the model run.

        Raises:
            EvaluationError: there is no such model, or it is no causal language model.
            OptionError: there is no such device.
        """
        from transformers import AutoConfig, AutoTokenizer

        if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
            raise EvaluationError(f"--llm {name}: the folder has no config.json; name the folder of a saved model")
        try:
            files = find_model(
                name, trust_remote_code=trust_remote_code, cache_folder=None if cache is None else str(cache)
            )
        except EncoderError as error:
            raise EvaluationError(f"--llm: {error}") from error
        self._folder, self._options = files.folder, {"trust_remote_code": trust_remote_code}
        try:
            config = AutoConfig.from_pretrained(files.folder, **self._options)
            with _quiet():
                self._tokenizer = AutoTokenizer.from_pretrained(files.folder, **self._options)
                if not self._ids(["text"])[0]:  # transformers makes an empty one where it finds no files
                    raise ValueError("the tokenizer knows no words")
        except Exception as error:  # whatever the libraries below raise about broken files
            raise EvaluationError(
                f"--llm {name}: has no configuration or tokenizer that transformers can read "
                f"({type(error).__name__}: {error}); save both beside the weights"
            ) from error
        _check_causal(name, config)
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token or self._tokenizer.convert_ids_to_tokens(0)
        self._device, self._batch_size = devices(device)[0], batch_size
        self._model: Any = None
        self.name = files.name
        self.identity = f"{files.name} {files.digest}"
        self.about: Mapping[str, Any] = {
            "model": files.name,
            "revision": files.revision,
            "digest": files.digest,
            "device": self._device,
            "labels": "by mean log-likelihood of a token",
        }
        self.tokens = "by the language model's tokenizer"
        window = getattr(config.get_text_config(), "max_position_embeddings", None)
        self.window: int | None = window if isinstance(window, int) and window > 0 else None

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, with those that the tokenizer puts at either end."""
        return [len(ids) for ids in self._ids(texts)]

    def answers(self, asked: Sequence[Asked]) -> Iterator[tuple[int, str]]:
        """The number of a prompt and its answer, the longest prompts first, so that memory runs out early or never.

        Raises:
            EvaluationError: the weights cannot be loaded.
        """
        self._load()
        order = sorted(range(len(asked)), key=lambda number: -len(asked[number].prompt))
        for start in range(0, len(order), self._batch_size):
            part = order[start : start + self._batch_size]
            batch = [asked[number] for number in part]
            answer = self._likeliest if batch[0].labels else self._continued
            yield from zip(part, answer(batch), strict=True)

    def _load(self) -> None:
        if self._model is not None:
            return
        import torch
        from transformers import AutoModelForCausalLM

        try:
            with _quiet():
                self._model = AutoModelForCausalLM.from_pretrained(
                    self._folder, dtype=torch.float32 if self._device == "cpu" else "auto", **self._options
                )
        except Exception as error:  # whatever the libraries below raise about broken files
            raise EvaluationError(
                f"--llm {self.name}: its weights cannot be loaded ({type(error).__name__}: {error}); copy or save the "
                "model again"
            ) from error
        self._model.to(self._device).eval()

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self._tokenizer(list(texts), verbose=False).input_ids if texts else []
        return ids

    def _likeliest(self, batch: Sequence[Asked]) -> list[str]:
        """The likeliest label of each prompt; of several, the first.

        Blanks that end a prompt belong to the label: tokenizers join them with what follows.
        """
        contexts = self._ids([one.prompt.rstrip() for one in batch])
        wholes = self._ids([one.prompt + label for one in batch for label in one.labels])
        rows, whole = [], iter(wholes)
        for one, context in zip(batch, contexts, strict=True):
            rows += [self._scored(next(whole), context) for _ in one.labels]
        order = sorted(range(len(rows)), key=lambda row: -len(rows[row][0]))
        scores = [0.0] * len(rows)
        for start in range(0, len(order), self._batch_size):
            part = order[start : start + self._batch_size]
            for row, score in zip(part, self._log_likelihoods([rows[row] for row in part]), strict=True):
                scores[row] = score
        answers, at = [], 0
        for one in batch:
            own = scores[at : at + len(one.labels)]
            answers.append(one.labels[own.index(max(own))])
            at += len(one.labels)
        return answers

    def _scored(self, whole: list[int], context: list[int]) -> tuple[list[int], int]:
        """Tokens of prompt and label, and the first of them that the prompt alone does not have."""
        end = self._tokenizer.eos_token_id
        if end is not None and whole[-1] == end and context[-1:] == [end]:  # it closes every text, and tells nothing
            whole = whole[:-1]
        pairs = enumerate(zip(whole, context, strict=False))
        start = next((i for i, (a, b) in pairs if a != b), min(len(whole), len(context)))
        return whole, max(1, min(start, len(whole) - 1))

    def _log_likelihoods(self, rows: Sequence[tuple[list[int], int]]) -> list[float]:
        """Mean log-likelihood of the tokens of each row from its start on."""
        import torch

        longest = max(len(ids) for ids, _ in rows)
        pad = self._tokenizer.pad_token_id or 0
        ids = torch.tensor([own + [pad] * (longest - len(own)) for own, _ in rows], device=self._device)
        mask = torch.tensor([[1] * len(own) + [0] * (longest - len(own)) for own, _ in rows], device=self._device)
        first = min(start for _, start in rows) - 1
        few = "logits_to_keep" in inspect.signature(self._model.forward).parameters
        with torch.inference_mode():
            given = {"logits_to_keep": longest - first} if few else {}
            logits = self._model(input_ids=ids, attention_mask=mask, use_cache=False, **given).logits
            logits = logits[:, -(longest - first) :].float()
            found = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, first + 1 :, None])[..., 0]
        return [float(found[i, start - 1 - first : len(own) - 1 - first].mean()) for i, (own, start) in enumerate(rows)]

    def _continued(self, batch: Sequence[Asked]) -> list[str]:
        """What greedy search goes on with after each prompt, until an answer ends."""
        import torch

        given = self._tokenizer([one.prompt for one in batch], return_tensors="pt", padding=True, padding_side="left")
        length = given.input_ids.shape[1]
        with torch.inference_mode(), _quiet():
            made = self._model.generate(
                input_ids=given.input_ids.to(self._device),
                attention_mask=given.attention_mask.to(self._device),
                max_new_tokens=batch[0].answer_tokens,
                do_sample=False,
                stop_strings=list(batch[0].stop),
                tokenizer=self._tokenizer,
                pad_token_id=self._tokenizer.pad_token_id,
            )
        texts: list[str] = self._tokenizer.batch_decode(made[:, length:], skip_special_tokens=True)
        return texts


def _check_causal(name: str, config: Any) -> None:
    """Raise `EvaluationError` unless a configuration is one of a causal language model."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    known = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    saved = list(config.architectures or ())
    causal = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].__name__ if known else None
    own_code = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if own_code or (known and (not saved or causal in saved)):
        return
    raise EvaluationError(
        f"--llm {name}: is {', '.join(saved) or config.model_type}, no causal language model; name one that "
        "transformers loads as AutoModelForCausalLM, such as EleutherAI/gpt-j-6B"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars and advice of transformers in between ours."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
