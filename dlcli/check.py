"""All that can be wrong with a composed configuration and can be known without importing torch or opening data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from dlcli import catalogue
from dlcli.errors import ConfigError, listing, shown, suggestion
from dlcli.hyperparameters import MIXING, Init, MinLen, PositiveFloat, RunReference, Seed, accepts, describe, keys_of
from dlcli.registry import DATA, MODELS, OPTIMIZERS, REGISTRIES, SCHEDULERS, TASKS, TRAINERS, Registry, missing_size
from dlcli.spec import SIZES

TOP_LEVEL: dict[str, Any] = {
    "seed": Seed,
    "run_dir": Annotated[str, MinLen(1)],
    "init": dict[str, Init],
    "init_from": RunReference | None,
    "freeze": list[str],
    "lr_factors": dict[str, PositiveFloat],
    "layers": Literal["torch", "scratch"],
}


EVALUATED = ("model", "data", "task")
"""The groups that matter when saved weights are measured or sampled from."""


def check(
    config: Mapping[str, Any],
    choices: Mapping[str, str | None],
    directories: list[Path],
    groups: Collection[str] = tuple(REGISTRIES),
) -> list[str]:
    """Problems of a composed configuration (of its ``groups`` only), one line each; an empty list if there are none."""
    problems = []
    for key, value in config.items():
        problems += _private_problems(key, value)
        if key in TOP_LEVEL:
            problems += _value_problem(key, value, TOP_LEVEL[key])
        elif key not in REGISTRIES:
            known = suggestion(str(key), [*TOP_LEVEL, *REGISTRIES, "experiment"])
            problems.append(f"unknown option '{shown(key)}'; {_elsewhere(str(key), config) or known}")
    problems += [
        f"missing option '{key}'; expected {describe(TOP_LEVEL[key])}" for key in TOP_LEVEL if key not in config
    ]
    broken = set()
    misfits: list[str] = []
    checked = set(groups) - unused_groups(config)
    for group in REGISTRIES:
        found = group_problems(group, config.get(group), config) if group in checked else []
        if found:
            problems += found
            broken.add(group)
    if not broken & {"model", "data", "task"}:
        trainer = config["trainer"]["name"] if "trainer" in groups and "trainer" not in broken else None
        misfits = _fit_problems(config, choices, directories, trainer)
        if trainer is not None:
            misfits += _partner_problems(config, choices, directories)
            misfits += _order_problems(config, choices)
        problems += [*misfits, *_batch_problems(config, choices)]
    # What belongs together decides what is measured: an entry that is to be changed says nothing about the monitor.
    if "trainer" in groups and not misfits and not broken & {"trainer", "task", "data"}:
        problems += _monitor_problems(config)
    if "trainer" in groups and not broken & {"trainer", "task", "scheduler"}:
        problems += _cadence_problems(config)
    if "trainer" in groups and "trainer" not in broken and config.get("layers") == "scratch":
        problems += _scratch_problems(config["trainer"])
    if "data" in groups and "data" not in broken:
        problems += _fold_problems(config["data"])
    return problems


def group_problems(group: str, values: Any, config: Mapping[str, Any] | None = None) -> list[str]:
    """Problems of one group's section: its name, unknown, missing and ill-typed options.

    With the whole ``config``, an unknown option that another group has is answered with that group's name.
    """
    if not isinstance(values, dict) or not isinstance(values.get("name"), str):
        return [f"{group} is {shown(values)}; expected one {group} by name, for example {group}={_example(group)}"]
    registry, name = REGISTRIES[group], values["name"]
    try:
        signature = registry.signature(name)
    except ConfigError as error:
        return error.problems
    # The data decide the sizes: of another group's parameters, those are not options.
    options = signature if group == DATA.group else {k: kind for k, kind in signature.items() if k not in SIZES}
    problems = []
    for key, value in values.items():
        if key == "name":
            continue
        if key in SIZES and key not in options:
            problems.append(f"{group}.{key} cannot be set: the data decide it")
        elif str(key).startswith("_"):
            continue  # reported by _private_problems
        elif key not in options:
            near = suggestion(str(key), options, full=False)
            near = near.replace("did you mean ", f"did you mean {group}.") if near.startswith("did") else ""
            hint = near or _elsewhere(str(key), config or {}, group) or _others(str(key), group) or _known(options)
            problems.append(f"unknown option '{group}.{shown(key)}' of {group} '{shown(name)}'; {hint}")
        else:
            problems += _value_problem(f"{group}.{key}", value, options[key])
    problems += [
        f"missing option '{group}.{key}' of {group} '{name}'; expected {describe(kind)}"
        for key, kind in options.items()
        if key not in values
    ]
    if "sample" in options and isinstance(values.get("sample"), dict):
        problems += sample_problems(name, values["sample"], f"{group}.sample.")
    return problems


def sample_problems(task: str, values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Problems of the options of a task's ``sample``: unknown, missing or of the wrong type."""
    signature = TASKS.signature(task, "sample")
    problems = []
    for key, value in values.items():
        if key in signature:
            problems += _value_problem(f"{prefix}{key}", value, signature[key])
        else:
            problems.append(f"unknown option '{prefix}{shown(key)}' of sampling; {suggestion(str(key), signature)}")
    missing = [key for key in signature if key not in values]
    return problems + [f"missing option '{prefix}{key}'; expected {describe(signature[key])}" for key in missing]


def _elsewhere(key: str, config: Mapping[str, Any], here: str = "") -> str:
    """A question for people who wrote ``lr=`` or ``model.lr=`` and meant ``optimizer.lr=``; "" if no group has it."""
    sections = {group: config.get(group) for group in REGISTRIES if group != here}
    options = [f"{group}.{key}" for group, section in sections.items() if isinstance(section, dict) and key in section]
    return f"did you mean {' or '.join(options)}?" if options and key != "name" else ""


def _others(key: str, group: str) -> str:
    """The other entries of the group that have this option, such as ``augmentation`` written for a text; "" if none."""
    having = [entry.name for entry in catalogue.entries(group).values() if key in entry.content()]
    return f"those that have it: {group}={listing(having, 60)}" if having else ""


def _known(options: Mapping[str, Any]) -> str:
    return "known: " + listing(options) if options else "it has no options"


def _example(group: str) -> str:
    return next(iter(catalogue.entries(group)), "…")


def _value_problem(key: str, value: Any, annotation: Any) -> list[str]:
    if value == "???":
        return [f"{key} must be given; expected {describe(annotation)}"]
    if accepts(value, annotation):
        return []
    known = keys_of(annotation)
    if known is not None and isinstance(value, dict):
        return [line for name, item in value.items() for line in _keyed_problem(key, str(name), item, known)]
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return [f"{key}={shown(text)}: expected {describe(annotation)}"]


def _keyed_problem(key: str, name: str, value: Any, known: Mapping[str, Any]) -> list[str]:
    if name not in known:
        near = suggestion(name, known).replace("did you mean ", f"did you mean {key}.")
        return [f"unknown option '{key}.{shown(name)}'; {near}"]
    return [] if value is None else _value_problem(f"{key}.{name}", value, known[name])


def _private_problems(path: str, value: Any) -> list[str]:
    """Keys such as Hydra's ``_partial_``, at any depth: a configuration must not look as if it could call something."""
    name = str(path).rpartition(".")[2]
    if name.startswith("_"):
        return [f"{shown(path)} is not allowed: a configuration names registered entries only"]
    if isinstance(value, dict):
        return [line for key, item in value.items() for line in _private_problems(f"{path}.{key}", item)]
    if isinstance(value, list | tuple):
        return [line for item in value for line in _private_problems(path, item)]
    return []


def _fit_problems(
    config: Mapping[str, Any], choices: Mapping[str, str | None], directories: list[Path], trainer: str | None
) -> list[str]:
    """Sizes that the model, the task or the trainer needs and the data do not define."""
    data = config["data"]["name"]
    label = choices.get("data") or data
    defined = provided_sizes(config["data"])
    problems = []
    model, task = config["model"]["name"], config["task"]["name"]
    needing = [(MODELS.group, model), (TASKS.group, task)]
    if trainer is not None:
        needing.append((TRAINERS.group, trainer))
    for group, name in needing:
        sizes = _needed_sizes(group, name)
        missing = [size for size in sizes if size not in defined]
        if missing:
            remedy = _remedy(group, name, set(sizes), directories)
            problems.append(missing_size(group, choices.get(group) or name, missing[0], label, defined) + remedy)
    return problems


def _partner_problems(
    config: Mapping[str, Any], choices: Mapping[str, str | None], directories: list[Path]
) -> list[str]:
    """Entries that name the ones of other groups which they go with, and a trainer that asks more of its model."""
    problems = []
    defined = provided_sizes(config["data"])
    for group in ("model", "data", "task", "trainer"):
        name = config[group]["name"]
        for other, names in REGISTRIES[group].constant(name, "goes_with", {}).items():
            if config[other]["name"] not in names:
                fitting = [entry for entry in names if set(_needed_sizes(other, entry)) <= set(defined)]
                problems.append(
                    f"{group} '{choices.get(group) or name}' does not go with {other} '{config[other]['name']}': "
                    f"add {other}={(fitting or names)[0]}"
                )
    model = config["model"]["name"]
    for registry in (TRAINERS, TASKS):
        name = config[registry.group]["name"]
        lacking = _lacking(registry, name, model)
        if lacking and not problems:
            able = [
                entry.name
                for entry in catalogue.entries("model", directories).values()
                if not _lacking(registry, name, entry.content()["name"])
                and name in MODELS.constant(entry.content()["name"], "goes_with", {}).get(registry.group, (name,))
            ]
            problems.append(
                f"{registry.group} '{name}' needs a model with {lacking[0]}, which model "
                f"'{choices.get('model') or model}' does not have; models that have it: {listing(able, 60)}"
            )
    return problems


def _lacking(registry: Registry, name: str, model: str) -> list[str]:
    """What a trainer or task asks of its model and this one does not have: methods, and networks to train by turns."""
    methods = [
        method for method in registry.constant(name, "model_methods", ()) if not MODELS.has_method(model, method)
    ]
    parts = [part for part in registry.constant(name, "trains", ()) if part != "model"]
    return [*(f"{m}()" for m in methods), *(f"a {part}" for part in parts if not MODELS.has_part(model, part))]


def _needed_sizes(group: str, name: str) -> list[str]:
    """The sizes that an entry needs the data to define."""
    if group == MODELS.group:
        return [size for size in MODELS.signature(name) if size in SIZES]
    return list(REGISTRIES[group].constant(name, "requires", ()))


def _batch_problems(config: Mapping[str, Any], choices: Mapping[str, str | None]) -> list[str]:
    """A task that compares examples of a batch, or random changes of them, and data that hold too few."""
    task, data = config["task"]["name"], config["data"]
    problems = []
    views = TASKS.constant(task, "views", "none")
    options = data.get("augmentation")
    changes = [name for name, value in options.items() if value is not None] if isinstance(options, dict) else []
    mixing = [name for name in changes if name in MIXING and views != "none"]
    if mixing:
        problems.append(
            f"data.augmentation.{mixing[0]}: task '{task}' looks at changes of single pictures, and {mixing[0]} puts "
            "others into them; leave it out"
        )
    if views == "needed" and not changes:
        label = choices.get("data") or data["name"]
        remedy = f"data '{label}' have none: use data of images"
        if "augmentation" in data:
            remedy = "set data.augmentation, for example 'data.augmentation={resized_crop:[0.3,1.0,0.75,1.33]}'"
        problems.append(f"task '{task}' compares two random changes of each picture; {remedy}")
    smallest = TASKS.constant(task, "smallest_batch", 1)
    if data.get("batch_size", smallest) < smallest:
        problems.append(
            f"data.batch_size={data['batch_size']}: task '{task}' compares the examples of a batch with each other; "
            f"use at least {smallest}"
        )
    return problems


def _order_problems(config: Mapping[str, Any], choices: Mapping[str, str | None]) -> list[str]:
    """A task that needs random changes of pictures, and a trainer that reads them in their order, unchanged."""
    task, trainer = config["task"]["name"], config["trainer"]
    if TASKS.constant(task, "views", "none") != "needed" or trainer.get("shuffle"):
        return []
    label = choices.get("trainer") or trainer["name"]
    remedy = "set trainer.shuffle=true" if "shuffle" in trainer else "add trainer=minibatch"
    return [f"trainer '{label}' reads pictures in their order, unchanged, and task '{task}' compares changes; {remedy}"]


def unused_groups(config: Mapping[str, Any]) -> set[str]:
    """Of the groups "optimizer" and "scheduler", those that the composed trainer does not ask for."""
    trainer = config.get("trainer")
    name = trainer.get("name") if isinstance(trainer, dict) else None
    optional = {OPTIMIZERS.group, SCHEDULERS.group}
    return optional - set(TRAINERS.constant(name, "uses", optional)) if TRAINERS.has(name) else set()


def provided_sizes(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The sizes that a data entry with these options defines, read from its class without importing it."""
    sizes = tuple(DATA.constant(data["name"], "provides", ()))
    for option, by_value in DATA.constant(data["name"], "provides_by", {}).items():
        sizes += tuple(by_value.get(data.get(option), ()))
    return sizes


def _remedy(group: str, name: str, sizes: set[str], directories: list[Path]) -> str:
    """The data that define these sizes, are pictures if that is what the entry wants, and go with its tasks."""
    of_images = MODELS.first_input(name) == "images" if group == MODELS.group else False
    of_images = of_images or (group == TASKS.group and TASKS.constant(name, "views", "none") != "none")
    tasks = (name,) if group == TASKS.group else REGISTRIES[group].constant(name, "goes_with", {}).get(TASKS.group)
    fitting = []
    for entry in catalogue.entries("data", directories).values():
        content = entry.content()
        if not isinstance(content.get("name"), str) or not sizes <= set(provided_sizes(content)):
            continue
        only = DATA.constant(content["name"], "goes_with", {}).get(TASKS.group, tasks)
        if (tasks is None or set(tasks) & set(only)) and (not of_images or "augmentation" in content):
            fitting.append(entry.name)
    return f"; data that fit: {listing(fitting, 60)}" if fitting else f"; no data fit {group} '{name}'"


def _cadence_problems(config: Mapping[str, Any]) -> list[str]:
    """A run that never ends, and options that wait for what never happens."""
    trainer, task = config["trainer"], config["task"]["name"]
    problems: list[str] = []
    if "scheduler" in unused_groups(config):
        return problems
    scheduler = config["scheduler"]["name"]
    if "max_steps" in trainer:
        budgeted = trainer["max_steps"] is not None or trainer["max_epochs"] is not None
        if not budgeted and trainer["max_minutes"] is None and trainer["patience"] is None:
            problems.append("the run would never end: set trainer.max_steps, max_epochs, max_minutes or patience")
        elif not budgeted and SCHEDULERS.constant(scheduler, "needs_total", False):
            problems.append(f"scheduler '{scheduler}' spreads over the run: set trainer.max_steps or max_epochs")
    if "eval_every" in trainer and trainer["eval_every"] is None:
        if trainer["patience"] is not None:
            problems.append(f"trainer.patience={trainer['patience']} counts evaluations: set trainer.eval_every")
        if SCHEDULERS.constant(scheduler, "listens", False):
            problems.append(f"scheduler '{scheduler}' listens to evaluations: set trainer.eval_every")
    accumulate = trainer.get("accumulate", 1)
    if accumulate > 1 and len(TASKS.constant(task, "trains", ("model",))) > 1:
        problems.append(f"trainer.accumulate={accumulate}: task '{task}' trains several networks in turn; use 1")
    return problems


def _scratch_problems(trainer: Mapping[str, Any]) -> list[str]:
    """What the hand-written layers cannot do."""
    problems = []
    if TRAINERS.constant(trainer["name"], "model_methods", ()):  # the model learns by a method of its own
        problems.append(f"layers=scratch: trainer '{trainer['name']}' computes no gradient of layers; use layers=torch")
    if trainer.get("precision") in ("bf16", "fp16"):
        precision = trainer["precision"]
        problems.append(f"trainer.precision={precision}: layers=scratch computes in fp32 or fp64; use one of them")
    if trainer.get("compile"):
        problems.append("trainer.compile=true: layers=scratch is not compiled; use trainer.compile=false")
    return problems


def _fold_problems(data: Mapping[str, Any]) -> list[str]:
    """A part of a cross-validation that does not exist, which a sweep over the folds should know before it starts."""
    fold, folds = data.get("fold") or 0, data.get("folds")
    if folds is None:
        return [f"data.fold={fold}: say with data.folds how many parts there are"] if fold else []
    return [f"data.fold={fold}: with data.folds={folds}, expected 0 to {folds - 1}"] if fold >= folds else []


def _monitor_problems(config: Mapping[str, Any]) -> list[str]:
    monitor = config["trainer"].get("monitor")
    if monitor is None:
        return []
    task = config["task"]["name"]
    defined, needs = provided_sizes(config["data"]), TASKS.constant(task, "metric_needs", {})
    metrics = [m for m in TASKS.constant(task, "metric_directions", {}) if m not in needs or needs[m] in defined]
    splits = [split for split in DATA.constant(config["data"]["name"], "splits", ()) if split != "train"]
    known = [f"{split}/{metric}" for split in splits for metric in metrics]
    if monitor in known:
        return []
    return [f"trainer.monitor={shown(monitor)}: task '{task}' does not measure it; {suggestion(monitor, known)}"]
