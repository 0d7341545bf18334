"""Mini-batch training: epochs of batches, one optimizer step at a time, evaluated, logged and saved on the way.

Out of scope here: what is minimised (tasks), where batches come from (data), how parameters move (optimizers),
choosing data by acting or by client (trainers of their own).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from dlcli import runtime
from dlcli.errors import ConfigError, DataError, NonFiniteError, counted
from dlcli.hyperparameters import Count, Duration, Gt, Le, Natural, PositiveFloat, Probability, steps_of
from dlcli.registry import TRAINERS
from dlcli.tasks.base import PerExample
from dlcli.trainers.base import RunContext, Trainer
from dlcli.trainers.evaluation import converted, evaluate, scalars
from dlcli.trainers.loop import Limited, MinibatchLoop, better
from dlcli.trainers.step import Stepper, losses_of

MAX_ROLLBACKS = 3
MAX_UNREAD = 1000  # steps whose values may wait on the device, if nothing is logged, measured or saved
MAX_WAITING = 1 << 24  # elements of ``PerExample`` values that may wait there


@TRAINERS.register("minibatch")
class MinibatchTrainer(Trainer):
    """Stochastic gradient descent over mini-batches (d2l 3.2-3.4 and 12.5, DLFS 4, GDL 8).

    Durations are steps, or texts such as "1 epoch"; null means never. Whichever of ``max_epochs``, ``max_steps`` and
    ``max_minutes`` is reached first ends the run.
    """

    loop: MinibatchLoop

    def __init__(
        self,
        *,
        max_epochs: Annotated[float, Gt(0), Le(1e6)] | None,
        max_steps: Count | None,
        max_minutes: PositiveFloat | None,
        eval_every: Duration | None,
        checkpoint_every: Duration | None,
        log_every: Duration | None,
        monitor: str,
        patience: Count | None,
        keep_top: Count,
        clip_norm: PositiveFloat | None,
        clip_value: PositiveFloat | None,
        accumulate: Count,
        shuffle: bool,
        ema_decay: Probability | None,
        precision: Literal["fp32", "bf16", "fp16", "fp64", "auto"],
        channels_last: Literal["auto"] | bool,
        compile: bool,
        device: str,
        devices: Count,
        sync_batch_norm: bool,
        process_timeout: PositiveFloat,
        deterministic: bool,
        on_nonfinite: Literal["stop", "skip", "rollback"],
        limit_train_batches: Count | None,
        limit_eval_batches: Count | None,
        overfit_batches: Natural,
        signals: bool,
    ):
        self.max_epochs = max_epochs
        self.max_steps = max_steps
        self.max_minutes = max_minutes
        self.eval_every = eval_every
        self.checkpoint_every = checkpoint_every
        self.log_every = log_every
        self.monitor = monitor
        self.patience = patience
        self.keep_top = keep_top
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.accumulate = accumulate
        self.shuffle = shuffle
        self.ema_decay = ema_decay
        self.precision = precision
        self.compile = compile
        self.on_nonfinite = on_nonfinite
        self.limit_train_batches = limit_train_batches
        self.limit_eval_batches = limit_eval_batches
        self.overfit_batches = overfit_batches
        self.signals = signals
        if signals and sync_batch_norm:
            raise ConfigError("trainer.signals=true looks at one process; use it without trainer.sync_batch_norm")

    def fit(self, run: RunContext) -> str:
        """Train until the budget is used or a metric stops improving. Returns why it ended, in words.

        Raises:
            NonFiniteError: the loss became NaN or infinite and ``on_nonfinite`` does not allow that.
            Interrupted: a signal arrived; the state is saved in ``last.pt``.
        """
        # What an epoch is, and how long the run is.
        self.run, self.group = run, run.group
        unordered = "shuffled" if self.shuffle else "sequential"
        self.order = "stream" if run.task.carries_state(run.model) else unordered
        self.dtype = runtime.input_dtype(self.precision)
        batches = self._epoch(0)
        per_epoch = math.ceil(len(batches) / self.accumulate)
        budgets = [self.max_steps, math.ceil(self.max_epochs * per_epoch) if self.max_epochs else None]
        total = min((budget for budget in budgets if budget is not None), default=10**9)
        if self.max_steps is not None and total < self.max_steps:
            run.say(
                f"trainer.max_epochs={self.max_epochs:g} ends the run at step {total:,}, before "
                f"trainer.max_steps={self.max_steps}; set trainer.max_epochs=null to go on"
            )
        eval_every, checkpoint_every, log_every = (
            steps_of(every, per_epoch) if every is not None else None
            for every in (self.eval_every, self.checkpoint_every, self.log_every)
        )
        rhythms = [every for every in (eval_every, checkpoint_every, log_every) if every is not None]

        # What moves: optimizers, schedules, and everything that a resumed run continues from.
        self.stepper = self._build_stepper(total, per_epoch)
        self.loop = MinibatchLoop()
        if run.resume_state is not None:
            self._restore(run.resume_state)
            if self.loop.step > total:
                raise ConfigError(
                    f"the run is at step {self.loop.step:,} already, more than its new budget of {total:,}"
                )
            if self.loop.step == total:
                run.say(f"nothing is left to do: the run is at the end of its budget of {counted(total, 'step')}")
        # Values on the device, by step, not read yet.
        self.tensors: list[tuple[int, dict[str, Tensor | PerExample]]] = []
        self.room = MAX_UNREAD  # of how many steps
        self.rollbacks = 0
        self.batches, self.epoch_of_batches = batches, 0
        saved = self.loop.step if run.resume_state is not None else -1
        run.progress.start(total if total < 10**9 else None, self.loop.step)
        logged_at = time.perf_counter()
        self.started = logged_at - self.loop.seconds
        self.counted = 0  # samples or tokens since ``logged_at``
        if run.resume_state is None:
            if self.signals:
                run.show_signals(0)
            self._save("last")

        while True:
            loop = self.loop
            step = loop.step
            loop.seconds = time.perf_counter() - self.started
            over = self._over(total)
            interrupted = run.interrupted()
            values = bool(self.tensors or loop.recent)
            log = log_every is not None and values and (bool(over) or step % log_every == 0)
            measure = eval_every is not None and step > loop.evaluated and (bool(over) or step % eval_every == 0)
            save = saved != step and (bool(over) or (checkpoint_every is not None and step % checkpoint_every == 0))

            # Before anything is written: read the losses, which may end the run or take it back.
            full = len(self.tensors) >= self.room
            if (log or measure or save or interrupted or full) and not self._read():
                continue

            # A signal: save and leave. What is due at this step happens on resuming.
            if interrupted:
                self._save("last")
                run.leave_interrupted(step)

            # Once in a while: log what happened since the last time.
            if log:
                now = time.perf_counter()
                self._log(self.counted / (now - logged_at) if self.counted else None)
                logged_at, self.counted = now, 0

            # Once in a while, and at the end: evaluate, and keep the best.
            if measure and step > 0:
                self._evaluate(step)
                logged_at, self.counted = time.perf_counter(), 0
                over = self._over(total)
                if run.interrupted():
                    continue

            # Once in a while, and at the end: save.
            if save or (over and saved != step):
                loop.seconds = time.perf_counter() - self.started
                self._save("last")
                saved = step
            if over:
                run.progress.stop()
                return over

            # The steps until something is due again.
            due = [step - step % every + every for every in rhythms]
            self._advance(min([total, *due]), log_every)

    def _advance(self, until: int, log_every: int | None) -> None:
        """Train up to step ``until``, or until a signal arrives, the time is over or values must be read; nothing else
        is looked at.
        """
        run, loop, stepper, group = self.run, self.loop, self.stepper, self.group
        tokens = run.data.unit == "tokens"
        while True:
            # The batches of one step: the next ones of this epoch.
            if loop.epoch != self.epoch_of_batches:
                self.batches, self.epoch_of_batches = self._epoch(loop.epoch), loop.epoch
            batches = self.batches
            stop = min(loop.position + self.accumulate, len(batches))
            micro_batches = [converted(batches[index], self.dtype) for index in range(loop.position, stop)]
            for batch in micro_batches:
                self.counted += batch[0].numel() if tokens else len(batch[0])
            shares = None
            if group is not None:
                parts = [group.part(batch) for batch in micro_batches]
                micro_batches, shares = [part for part, _ in parts], [share for _, share in parts]

            # One step.
            if loop.step in loop.poisoned:
                loop.skipped += 1
                stepper.step_count += 1
            else:
                norm_wanted = log_every is not None and (loop.step + 1) % log_every == 0
                values, loop.carry, skipped = stepper.run(micro_batches, loop.carry, norm_wanted, shares)
                loop.skipped += skipped
                if not skipped or self.on_nonfinite != "skip":
                    self.tensors.append((loop.step, values))
                    if len(self.tensors) == 1:
                        self.room = room_for(values)
            loop.step += 1
            loop.position = stop
            if stop == len(batches):
                loop.epoch, loop.position, loop.carry = loop.epoch + 1, 0, None
            run.progress.advance(loop.step)
            if loop.step >= until or len(self.tensors) >= self.room or run.interrupted() or self._late():
                return

    def try_out(self, run: RunContext) -> dict[str, float]:
        """The losses of the first training batch, by network, after a backward pass."""
        order = "stream" if run.task.carries_state(run.model) else "shuffled"
        batch = run.data.batches("train", order=order, seed=run.seed, epoch=0)[0]  # type: ignore[arg-type]
        return losses_of(run.model, run.task, converted(batch, runtime.input_dtype(self.precision)))

    # ------------------------------------------------------------------ pieces

    def _epoch(self, epoch: int) -> Any:
        """The batches of an epoch, a pure function of the run's seed and the epoch's number."""
        if self.overfit_batches:
            batches = self.run.data.batches("train", order=self.order, seed=self.run.seed, epoch=0)  # type: ignore[arg-type]
            return Limited(batches, self.overfit_batches)
        batches = self.run.data.batches("train", order=self.order, seed=self.run.seed, epoch=epoch)  # type: ignore[arg-type]
        return Limited(batches, self.limit_train_batches) if self.limit_train_batches else batches

    def _build_stepper(self, total: int, per_epoch: int) -> Stepper:
        run = self.run
        return Stepper(
            run.model,
            run.task,
            {name: run.build_optimizer(name) for name in run.task.trains},
            {name: run.build_scheduler(total, per_epoch) for name in run.task.trains},
            run.device,
            precision=self.precision,
            compile=self.compile,
            clip_norm=self.clip_norm,
            clip_value=self.clip_value,
            ema_decay=self.ema_decay,
            skip_nonfinite=self.on_nonfinite == "skip",
            group=self.group,
        )

    def _over(self, total: int) -> str | None:
        """Why the run ends at this step, or None."""
        if self.loop.step >= total:
            return "the budget of steps or epochs is used"
        if self._late():
            return f"the time is over: trainer.max_minutes={self.max_minutes:g}"
        if self.patience is not None and self.loop.stale >= self.patience:
            return f"{self.monitor} has not improved for {counted(self.patience, 'evaluation')}"
        return None

    def _late(self) -> bool:
        """Whether the time that the run may take is over."""
        if self.max_minutes is None:
            return False
        late = time.perf_counter() - self.started >= 60 * self.max_minutes
        return late if self.group is None else self.group.agree("time", late)

    def _read(self) -> bool:
        """Move the device's values since the last time into the loop's lists. False if that took the run back.

        One transfer for all steps: the loop does not wait for the device anywhere else.
        """
        for name in sorted({name for _, values in self.tensors for name in values}):
            steps = [step for step, values in self.tensors if name in values]
            found = [values[name] for _, values in self.tensors if name in values]
            for step, number in zip(steps, numbers(found, self.dtype or torch.float32), strict=True):
                if name.endswith("loss") and not math.isfinite(number) and self.on_nonfinite != "skip":
                    self._nonfinite(step, number)
                    return False
                self.loop.recent.setdefault(name, []).append(number)
        if self.tensors and not self.stepper.weights_are_finite():
            self._nonfinite(self.tensors[-1][0], math.nan, "a weight")
            return False
        self.tensors.clear()
        if self.log_every is None:  # nobody will read them
            self.loop.recent = {name: numbers[-1:] for name, numbers in self.loop.recent.items()}
        return True

    def _nonfinite(self, step: int, value: float, what: str = "the loss") -> None:
        """A loss or a weight was not finite: end the run, or go back to the last checkpoint and leave the step out."""
        run = self.run
        where = f"{what} is {value} at step {step + 1} (epoch {self.loop.epoch + 1})"
        rate = f"learning rate {self.stepper.learning_rate():.3g}, batch size {run.data.batch_size}"
        if self.on_nonfinite == "rollback" and self.rollbacks < MAX_ROLLBACKS:
            self.rollbacks += 1
            state = run.load_checkpoint()
            poisoned = [*state["loop"]["poisoned"], step]
            self._restore(state)
            run.cut_logs(self.loop.offsets)
            self.loop.poisoned = poisoned
            self.tensors.clear()
            run.say(f"{where}; went back to step {self.loop.step} and will leave that step out")
            return
        run.progress.stop()
        raise NonFiniteError(
            f"{where}, {rate}; the last good checkpoint is kept; lower optimizer.lr or set trainer.clip_norm"
        )

    def _log(self, rate: float | None) -> None:
        run, step = self.run, self.loop.step
        means = {name: sum(values) / len(values) for name, values in self.loop.recent.items() if values}
        self.loop.recent = {}
        means["learning_rate"] = self.stepper.learning_rate()
        if self.loop.skipped:
            means["skipped_steps"] = float(self.loop.skipped)
        if rate is not None:
            means[f"{run.data.unit}_per_second"] = rate
        self.loop.latest = means
        values = {f"train/{name}": value for name, value in means.items()}
        run.log(step, values)
        run.progress.report(step, self.loop.epoch + (self.loop.position > 0), values, rate)

    def _evaluate(self, step: int) -> None:
        """Measure the validation split, show samples, and save ``best.pt`` if the monitored metric is the best yet."""
        run, loop = self.run, self.loop
        networks = self.stepper.evaluation_networks
        split, _, metric = self.monitor.partition("/")
        if self.group is not None:  # such as running means of the inputs, which each process has of its own part
            self.group.copy_from_main(list((self.stepper.averaged or run.model).buffers()))
        measured = evaluate(
            run.task,
            run.model,
            networks,
            run.data,
            split,
            autocast=self.stepper.autocast,
            dtype=self.dtype,
            limit=self.limit_eval_batches,
            stop=run.interrupted if self.group is None else None,
            group=self.group,
            watch=run.progress.measuring,
        )
        if run.interrupted():  # it may have ended early; it is done again on resuming
            return
        loop.evaluated = step
        values = scalars(measured)
        run.log(step, {f"{split}/{name}": value for name, value in values.items()})
        run.show(step, split, measured, networks)
        if self.signals:
            run.show_signals(step)
        run.progress.evaluated(step, split, values, metric)

        # Listen: the schedule may, the best checkpoint and early stopping do.
        value, direction = values[metric], run.task.metric_directions[metric]
        for schedule in self.stepper.schedules.values():
            schedule.observe(value, direction)
        if better(value, loop.best, direction):
            loop.best = {"metric": self.monitor, "value": value, "step": step, "metrics": values}
            loop.stale = 0
            self._save("best")
        else:
            loop.stale += 1
        if self.keep_top > 1 and math.isfinite(value):
            self._keep_top(value, step, direction)

    def _keep_top(self, value: float, step: int, direction: str) -> None:
        ranked = sorted([*self.loop.top, [value, step]], key=lambda pair: pair[0], reverse=direction == "max")
        for _, dropped in ranked[self.keep_top :]:
            self.run.drop_checkpoint(f"step_{dropped:08d}")
        self.loop.top = ranked[: self.keep_top]
        if [value, step] in self.loop.top:
            self._save(f"step_{step:08d}")

    def _save(self, name: str) -> None:
        self.loop.offsets = self.run.log_offsets()
        carry = self.loop.carry if self.group is None else self.group.whole_carry(self.loop.carry)
        self.run.save_checkpoint(name, {**self.stepper.state_dict(), "loop": {**vars(self.loop), "carry": carry}})

    def _restore(self, state: dict[str, Any]) -> None:
        loop = MinibatchLoop(**state["loop"])
        if loop.carry is not None:
            carry = loop.carry if self.group is None else self.group.carry_part(loop.carry)
            loop.carry = tuple(tensor.to(self.run.device) for tensor in carry)
        self.loop = loop
        try:
            self.stepper.load_state_dict(state, loop.step)
        except (RuntimeError, ValueError, KeyError):
            raise DataError("the checkpoint is that of another model or optimizer; put the run's own back") from None
        self.run.restore_random_state(state)


def room_for(values: Mapping[str, Tensor | PerExample]) -> int:
    """How many steps with values of these sizes may wait on the device."""
    elements = sum(value.elements for value in values.values() if isinstance(value, PerExample))
    return max(1, min(MAX_UNREAD, MAX_WAITING // max(1, elements)))


def numbers(values: list[Any], dtype: torch.dtype) -> list[float]:
    """Scalars, or the means of ``PerExample`` values, of some steps: computed together, and read in one transfer."""
    if all(isinstance(value, PerExample) for value in values):
        lengths = torch.tensor([len(value.tensors[0]) for value in values])
        each = values[0].function(
            *(torch.cat(parts) for parts in zip(*(value.tensors for value in values), strict=True))
        )
        together = torch.segment_reduce(each.to(dtype), "mean", lengths=lengths.to(each.device))
    else:
        scalars = [value.mean() if isinstance(value, PerExample) else value for value in values]
        together = torch.stack(scalars).to(dtype)
    found: list[float] = together.tolist()
    return found
