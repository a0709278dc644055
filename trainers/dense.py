"""The dense model of a width as cached stages: from plain weights to the fine-tuned model.

    keys:    prime -> pretrain -> finetune          (the N = 1 model may teach)
    blocks:  finetune (N = 1) -> narrow -> finetune

`model.widening` chooses; at N = 1, and where the source has weights for N, `finetune` is alone.
"""

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn

from trainers.config import ModelConfig, decisive
from trainers.context import TrainingContext
from trainers.data.encoding import special_ids
from trainers.measure.worth import unit_scores
from trainers.models.blocks import block_masks, stack
from trainers.models.checkpoints import read_tensors
from trainers.models.compaction import compact
from trainers.models.heads import TokenHead
from trainers.models.muxed_bert import MuxedBert, initialise
from trainers.models.shape import numbered_labels
from trainers.models.sources import has_pretrained_width, load_source, source_fingerprint
from trainers.phase_config import FinetuneConfig
from trainers.phases.finetune import FinetuneProgram
from trainers.phases.layers import LayerMatcher, compacted_map, identity_map, load_map
from trainers.phases.loop import Program
from trainers.phases.pretrain import PretrainProgram
from trainers.phases.prime import PrimeProgram
from trainers.stages import HEAD_FILE, Stage

logger = logging.getLogger(__name__)


def finetuned_stage(context: TrainingContext, num_instances: int) -> Stage:
    """Yield the stage of the dense fine-tuned model of a width, its teacher among its needs."""
    config, model_config = context.config.finetune, context.config.model
    if num_instances == 1:
        config = replace(config, retrieval_weight=0.0)  # there is nothing to retrieve
    is_stacked = model_config.widening == "blocks" and not has_pretrained_width(
        model_config, num_instances
    )
    needs: tuple[Stage, ...]
    if is_stacked:
        needs = (_narrow_stage(context, num_instances),)
    else:
        needs = tuple(_pretrained_stages(context, num_instances))
    teacher = None
    if num_instances > 1 and (config.distill_weight > 0 or config.state_distill_weight > 0):
        teacher = finetuned_stage(context, 1)
    key = {**_key(model_config, num_instances), "task": context.task.labels}

    def start() -> tuple[Program, MuxedBert]:
        if is_stacked:
            narrow, shape = needs[-1].load(), load_source(model_config, num_instances).shape
            labels = narrow.shape.labels
            shape = replace(shape, labels=labels, num_classes=len(labels))
            model = stack(narrow, replace(shape, embed_mode="single_pass"))
        else:
            model = needs[-1].load() if needs else load_source(model_config, num_instances)
        taught_by = None if teacher is None else teacher.load()
        program, model = finetune_program(context, model, taught_by, config, context.seed)
        head = program.modules.get("token_head")
        if head is not None and needs and not is_stacked:
            head.load_state_dict(read_tensors(needs[-1].directory / HEAD_FILE))
        return program, model

    stages = (*needs, teacher) if teacher is not None else needs
    return Stage(context, "finetune", num_instances, context.seed, key, stages, config, start)


def _key(config: ModelConfig, num_instances: int) -> dict[str, Any]:
    """Yield what decides the weights that a width starts from, but for the stages it needs."""
    model = decisive(config)
    model.pop("widening")  # told by these stages
    model.pop("wide_source", None)  # told by the fingerprint
    return {"model": model, "source": source_fingerprint(config, num_instances)}


def _narrow_stage(context: TrainingContext, num_instances: int) -> Stage:
    """Yield the stage of the plain model that `num_instances` copies of make up the wide one."""
    teacher, config = finetuned_stage(context, 1), context.config.narrow

    def start() -> tuple[Program, MuxedBert]:
        model = teacher.load().to(context.precision.device)
        scores = unit_scores(model, context.train, seed=context.seed)
        masks = block_masks(model.shape, scores, num_instances)
        narrow, taught_by = compact(model, masks), teacher.load().to(context.precision.device)
        layers = None
        if config.layer_distill_weight > 0:
            whole = identity_map(model.shape.hidden_size).to(masks.hidden)
            layer_map = load_map(compacted_map(whole, masks)).to(masks.hidden)
            shared: dict[str, Any] = {"seed": context.seed, "precision": context.precision}
            layers = LayerMatcher(taught_by, layer_map, config, **shared)
        return finetune_program(context, narrow, taught_by, config, context.seed, layers)

    return Stage(context, "narrow", num_instances, context.seed, {}, (teacher,), config, start)


def _pretrained_stages(context: TrainingContext, num_instances: int) -> Iterator[Stage]:
    model_config = context.config.model
    if has_pretrained_width(model_config, num_instances):
        return
    key = _key(model_config, num_instances)
    previous: Stage | None = None
    phases: tuple[Literal["prime", "pretrain"], ...] = ("prime", "pretrain")
    for name in phases:
        config = getattr(context.config, name)
        if config.num_updates == 0:
            continue
        teacher = _finetuned_teacher(context) if name == "pretrain" else None
        start = _pretraining_start(context, name, num_instances, previous, teacher)
        needs = tuple(stage for stage in (previous, teacher) if stage is not None)
        previous = Stage(context, name, num_instances, context.seed, key, needs, config, start)
        yield previous


def _finetuned_teacher(context: TrainingContext) -> Stage | None:
    """Yield the stage of the fine-tuned N = 1 model if its states are matched in pre-training."""
    config = context.config.pretrain
    is_asked = config.teacher == "finetuned" and config.distill_weight > 0
    return finetuned_stage(context, 1) if is_asked else None


def _pretraining_start(
    context: TrainingContext,
    name: Literal["prime", "pretrain"],
    num_instances: int,
    previous: Stage | None,
    teacher: Stage | None,
) -> Callable[[], tuple[Program, MuxedBert]]:
    def start() -> tuple[Program, MuxedBert]:
        device, model_config = context.precision.device, context.config.model
        source = load_source(model_config, num_instances) if previous is None else previous.load()
        model = source.to(device)
        shape = model.shape
        head = TokenHead(shape.dense_hidden_size, shape.vocab_size, shape.layer_norm_eps)
        head.apply(initialise)
        if previous is not None:
            head.load_state_dict(read_tensors(previous.directory / HEAD_FILE))
        head = head.to(device)
        shared: dict[str, Any] = {"seed": context.seed, "precision": context.precision}
        if name == "prime":
            config = context.config.prime
            held_out = context.held_out
            primed = PrimeProgram(model, head, context.train, config, held_out=held_out, **shared)
            return primed, model
        taught_by = load_source(model_config, 1) if teacher is None else teacher.load()
        return PretrainProgram(
            model,
            head,
            taught_by.to(device),
            context.train,
            special_ids(context.tokenizer),
            context.config.pretrain,
            **shared,
        ), model

    return start


def finetune_program(
    context: TrainingContext,
    model: MuxedBert,
    teacher: MuxedBert | None,
    config: FinetuneConfig,
    seed: int,
    layers: LayerMatcher | None = None,
) -> tuple[Program, MuxedBert]:
    """Yield a fine-tuning of `model`, given a head for the task if need be, and the model."""
    device = context.precision.device
    labels = context.task.labels
    if model.shape.labels != labels:
        model = with_labels(model, labels)
    program = FinetuneProgram(
        model.to(device),
        None if teacher is None else teacher.to(device),
        context.train,
        context.held_out,
        config,
        seed=seed,
        precision=context.precision,
        layers=layers,
    )
    return program, model


@torch.no_grad()
def with_labels(model: MuxedBert, labels: tuple[str, ...]) -> MuxedBert:
    """Yield the model with a head for `labels`.

    A trained head keeps its rows: in the order of `labels` if it names the same classes, however
    they are spelt, and in its own if it names none and has as many. Any other is drawn anew, as
    the first training of a task starts.
    """
    is_trained = len(model.shape.labels) == model.shape.num_classes
    own = model.shape.labels if is_trained else ()
    rows = _rows_of(own, labels)
    if own:
        told = "a new one is drawn for" if rows is None else "its rows are kept for"
        logger.info("classifier of %s: %s %s", ", ".join(own), told, ", ".join(labels))
    if rows is None:
        model.sequence_head.output = nn.Linear(model.shape.dense_hidden_size, len(labels))
        model.sequence_head.apply(initialise)
    else:
        for parameter in model.sequence_head.output.parameters():
            parameter.copy_(parameter[rows])
    model.shape = replace(model.shape, labels=labels, num_classes=len(labels))
    return model


def _rows_of(own: tuple[str, ...], labels: tuple[str, ...]) -> list[int] | None:
    """Yield the rows of a head for the classes `own` that tell `labels` apart, if it can."""
    if own and own == numbered_labels(len(labels)):
        return list(range(len(labels)))
    known = [_plain_word(name) for name in own]
    wanted = [_plain_word(name) for name in labels]
    if len(set(known)) < len(known) or sorted(known) != sorted(wanted):
        return None
    return [known.index(name) for name in wanted]


def _plain_word(label: str) -> str:
    return re.sub(r"\W|_", "", label).casefold()  # `not-entailment`, `Not_Entailment`
