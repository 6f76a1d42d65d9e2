"""The arguments of sentence-transformers' trainer that a run's settings stand for."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from sentence_transformers import SentenceTransformerTrainingArguments
from transformers import Trainer, get_scheduler

from medi_build.errors import TrainError
from medi_build.train.hardware import precision_for
from medi_build.train.holdout import ACCURACY
from medi_build.train.settings import REPLACED, TrainSettings

_SECRETS = {"hub_token", "push_to_hub_token"}


def make_arguments(settings: TrainSettings) -> SentenceTransformerTrainingArguments:
    """The trainer's arguments.

    Raises:
        TrainError: the trainer does not take them, or they cannot work on this machine.
    """
    given: Mapping[str, Any] = settings.extra
    on_gpu = torch.cuda.is_available() and not given.get("use_cpu")
    precision = precision_for(settings)
    defaults: dict[str, Any] = {
        "report_to": "none",
        "use_cpu": not torch.accelerator.is_available(),  # else bf16 on a machine without a GPU is refused
        "dataloader_pin_memory": on_gpu,
        "save_total_limit": 2,
        "logging_nan_inf_filter": False,
        "bf16": precision == "bfloat16",
        "fp16": precision == "float16",
    }
    ours: dict[str, Any] = {
        "output_dir": str(settings.output_dir),
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "learning_rate": settings.learning_rate,
        "warmup_steps": settings.warmup_ratio,
        "weight_decay": settings.weight_decay,
        "seed": settings.seed,
        "full_determinism": False,  # ours does without CUDA_LAUNCH_BLOCKING, and is taken back
        "logging_steps": settings.logging_steps,
        "save_strategy": "steps",
        "save_steps": settings.eval_steps,
        "eval_steps": settings.eval_steps,
    }
    if clash := sorted({*ours, *REPLACED} & set(given)):
        raise TrainError(f"extra arguments {', '.join(clash)} are set by medi itself; use the fields of TrainSettings")
    if secrets := sorted(_SECRETS & set(given)):
        raise TrainError(
            f"{', '.join(secrets)}: a token among the arguments would stand in the model card and in every checkpoint; "
            "leave it out, and log in with `hf auth login` or set HF_TOKEN"
        )
    try:
        args = SentenceTransformerTrainingArguments(**{**defaults, **given, **ours})
    except (TypeError, ValueError, ImportError) as error:
        raise TrainError(f"the trainer does not take these arguments: {error}") from error
    if args.fp16 and args.device.type == "cpu":
        raise TrainError("precision is float16, which the CPU does not train in; use float32 or bfloat16 there")
    if args.n_gpu > 1:
        raise TrainError(
            f"one process sees {args.n_gpu} GPUs; start one process for each (`torchrun --nproc-per-node {args.n_gpu}"
            " -m medi_build train ...`), or show it one with CUDA_VISIBLE_DEVICES=0"
        )
    return args


def optimiser_faults(args: SentenceTransformerTrainingArguments) -> Iterator[str]:
    """Whether optimiser and schedule can be made, which the trainer does as late as in its first step."""
    weight = torch.nn.Parameter(torch.zeros(1))
    try:
        Trainer.get_optimizer_cls_and_kwargs(args)
    except (ImportError, RuntimeError, ValueError) as error:
        yield f"optim {args.optim}: {error}"
    try:
        get_scheduler(args.lr_scheduler_type, torch.optim.SGD([weight]), 1, 2, args.lr_scheduler_kwargs)
    except (TypeError, ValueError) as error:
        yield f"lr_scheduler_type {args.lr_scheduler_type}: {error}"


def with_steps(
    args: SentenceTransformerTrainingArguments, batches: int, *, evaluates: bool, holds_out: bool
) -> SentenceTransformerTrainingArguments:
    """The plan is the whole run: one pass over it, evaluated on the way, the best checkpoint kept.

    Which is best is for rows held out of the training data to say, and for no evaluation set.
    """
    args.max_steps = -(-batches // args.gradient_accumulation_steps)
    if evaluates:
        args.eval_strategy = "steps"
    if holds_out:
        args.load_best_model_at_end = True
        args.metric_for_best_model = f"eval_{ACCURACY}"
        args.greater_is_better = True
    return args
