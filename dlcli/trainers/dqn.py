"""Deep Q-learning: a network instead of a table, trained on transitions that a buffer remembers."""

from __future__ import annotations

import copy
import math
import random
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from dlcli.data.environment import episode_seed
from dlcli.errors import NonFiniteError
from dlcli.hyperparameters import Chance, Count, Fraction, PositiveFloat
from dlcli.registry import TRAINERS
from dlcli.tasks.control import Transitions
from dlcli.trainers import greedy_policy
from dlcli.trainers.base import RunContext, Trainer, restore_model
from dlcli.trainers.loop import Loop
from dlcli.trainers.step import Stepper, losses_of


@dataclass
class DeepLoop(Loop):
    """The state of deep Q-learning, beside the networks and the buffer. Steps are the environment's."""

    updates: int = 0  # of the network
    recent: dict[str, list[float]] = field(default_factory=dict)  # returns and lengths since the latest log


class Replay:
    """The latest transitions, as rows of tensors on the device; the oldest make room for new ones."""

    def __init__(self, size: int, observation: Tensor):
        """observation: (1, …), one as the network reads it."""
        shape, device = (size, *observation.shape[1:]), observation.device
        self.added = 0
        self.tensors = {
            "observations": torch.zeros(shape, dtype=observation.dtype, device=device),
            "following": torch.zeros(shape, dtype=observation.dtype, device=device),
            "actions": torch.zeros(size, dtype=torch.int64, device=device),
            "rewards": torch.zeros(size, device=device),
            "going_on": torch.zeros(size, device=device),  # 0 where the episode ended by itself
        }

    def add(self, observation: Tensor, following: Tensor, action: int, reward: float, terminated: bool) -> None:
        row = self.added % len(self.tensors["actions"])
        self.tensors["observations"][row] = observation[0]
        self.tensors["following"][row] = following[0]
        self.tensors["actions"][row] = action
        self.tensors["rewards"][row] = reward
        self.tensors["going_on"][row] = float(not terminated)
        self.added += 1

    def draw(self, count: int) -> dict[str, Tensor]:
        """``count`` of the transitions, each drawn from all."""
        known = min(self.added, len(self.tensors["actions"]))
        rows = torch.randint(known, (count,)).to(self.tensors["actions"].device)
        return {name: tensor[rows] for name, tensor in self.tensors.items()}

    def state_dict(self) -> dict[str, Any]:
        known = min(self.added, len(self.tensors["actions"]))
        return {"added": self.added, **{name: tensor[:known].clone() for name, tensor in self.tensors.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.added = state["added"]
        for name, tensor in self.tensors.items():
            tensor[: len(state[name])] = state[name].to(tensor.device)


@TRAINERS.register("dqn")
class DeepQLearning(Trainer):
    """Q-learning whose values are a network's, moved by the gradient of the squared error on remembered transitions.

    The targets come from a second network that follows the first slowly. With ``double`` the first one chooses the
    action that the second one values. Episodes are played to their end before anything is measured or saved; what is
    saved includes the buffer, so that a resumed run goes on with the same bits.

    Source: Mnih et al. 2015, "Human-level control through deep reinforcement learning"; van Hasselt et al. 2016,
    "Deep Reinforcement Learning with Double Q-learning"; Lillicrap et al. 2016 (the slow target network).
    """

    requires: ClassVar[tuple[str, ...]] = ("num_actions",)
    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {"task": ("control",)}
    loop: DeepLoop

    def __init__(
        self,
        *,
        discount: Fraction,
        max_steps: Count,
        warmup_steps: Count,
        update_every: Count,
        batch_size: Count,
        replay_size: Count,
        target_rate: Fraction,
        double: bool,
        epsilon: Chance,
        final_epsilon: Chance,
        epsilon_steps: Count,
        clip_norm: PositiveFloat | None,
        eval_every: Count,
        checkpoint_every: Count,
        log_every: Count,
        monitor: str,
        device: str,
        precision: Literal["fp32"],
    ):
        """
        Args:
            discount: what a reward is worth one step later.
            max_steps: of the environment; the episode in which they are reached is the last.
            warmup_steps: before the first update.
            update_every: steps of the environment for each of the network.
            batch_size: transitions of an update.
            replay_size: transitions that are remembered.
            target_rate: the share by which the target network moves towards the network at each update.
            double: as above.
            epsilon, final_epsilon, epsilon_steps: the probability of a random action goes in a straight line from the
                first to the second over so many steps.
            clip_norm: largest norm of the gradient.
            eval_every, checkpoint_every, log_every: steps; what is due happens at the end of the episode.
            monitor: the metric that decides which weights are the best.
            device, precision: as for every trainer.
        """
        self.discount = discount
        self.max_steps = max_steps
        self.warmup_steps = warmup_steps
        self.update_every = update_every
        self.batch_size = batch_size
        self.replay_size = replay_size
        self.target_rate = target_rate
        self.double = double
        self.epsilon = epsilon
        self.final_epsilon = final_epsilon
        self.epsilon_steps = epsilon_steps
        self.clip_norm = clip_norm
        self.eval_every = eval_every
        self.checkpoint_every = checkpoint_every
        self.log_every = log_every
        self.monitor = monitor

    def fit(self, run: RunContext) -> str:
        """
        Raises:
            NonFiniteError: the loss became NaN or infinite.
            Interrupted: a signal arrived; the episode was played to its end, and the state is saved in ``last.pt``.
        """
        # What moves, and where a resumed run stands.
        self.run, self.environment = run, run.data
        world = run.data.make()  # type: ignore[attr-defined]
        self.network, self.target = run.model, copy.deepcopy(run.model).requires_grad_(False)
        self.stepper = self._build_stepper()
        self.replay = Replay(self.replay_size, self._seen(world.reset(seed=0)[0]))
        loop = self.loop = DeepLoop()
        if run.resume_state is not None:
            loop = self.loop = DeepLoop(**run.resume_state["loop"])
            restore_model(run, run.resume_state)
            self.stepper.load_state_dict(run.resume_state, loop.updates)
            self.target.load_state_dict(run.resume_state["target"])
            self.replay.load_state_dict(run.resume_state["replay"])
        losses: list[Tensor] = []  # on the device, since the latest log
        started = time.perf_counter() - loop.seconds
        run.progress.start(self.max_steps, loop.step)
        while loop.step < self.max_steps:
            before = loop.step
            self._play(world, losses)

            # What is due after this episode, and at the end.
            over, interrupted = loop.step >= self.max_steps, run.interrupted()
            log = over or interrupted or loop.step // self.log_every > before // self.log_every
            measure = over or loop.step // self.eval_every > before // self.eval_every
            save = over or interrupted or loop.step // self.checkpoint_every > before // self.checkpoint_every
            loop.seconds = time.perf_counter() - started
            if log or measure or save:
                self._check(losses)
            if log:
                self._log(losses)
            if measure:
                greedy_policy.measure(run, loop, self.monitor)
            if save:
                others = {"target": self.target.state_dict(), "replay": self.replay.state_dict()}
                greedy_policy.save(run, loop, "last", {**self.stepper.state_dict(), **others})
            if interrupted:
                run.leave_interrupted(loop.step)
        run.progress.stop()
        return "the budget of steps is used"

    def try_out(self, run: RunContext) -> dict[str, float]:
        """The loss of the network on its first step."""
        self.environment = run.data
        self.network = self.target = run.model
        world = run.data.make()  # type: ignore[attr-defined]
        observation = self._seen(world.reset(seed=episode_seed(run.seed, 0))[0])
        following, reward, terminated, _, _ = world.step(0)
        replay = Replay(1, observation)
        replay.add(observation, self._seen(following), 0, float(reward), terminated)
        return losses_of(run.model, run.task, self._transitions(replay.draw(1)))

    # ------------------------------------------------------------------ pieces

    def _build_stepper(self) -> Stepper:
        run = self.run
        updates = max(1, (self.max_steps - self.warmup_steps) // self.update_every)
        return Stepper(
            *(run.model, run.task, {"model": run.build_optimizer("model")}),
            *({"model": run.build_scheduler(updates, updates)}, run.device),
            precision="fp32",
            compile=False,
            clip_norm=self.clip_norm,
            clip_value=None,
            ema_decay=None,
            skip_nonfinite=False,
        )

    def _seen(self, observation: Any) -> Tensor:
        """One observation as the network reads it, (1, …)."""
        seen: Tensor = self.environment.observed([observation])  # type: ignore[attr-defined]
        return seen

    def _epsilon(self) -> float:
        share = min(1.0, self.loop.step / self.epsilon_steps)
        return self.epsilon + (self.final_epsilon - self.epsilon) * share

    def _play(self, world: Any, losses: list[Tensor]) -> None:
        """One episode, with the updates that are due on the way."""
        loop, run = self.loop, self.run
        observation = self._seen(world.reset(seed=episode_seed(run.seed, loop.epoch))[0])
        total, length, ended = 0.0, 0, False
        while not ended:
            if random.random() < self._epsilon():
                action = random.randrange(run.data.spec.num_actions or 0)
            else:
                with torch.no_grad():
                    action = int(self.network(observation).argmax(1))
            found, reward, terminated, truncated, _ = world.step(action)
            following, ended = self._seen(found), terminated or truncated
            self.replay.add(observation, following, action, float(reward), terminated)
            observation, total, length = following, total + float(reward), length + 1
            loop.step += 1
            if loop.step >= self.warmup_steps and loop.step % self.update_every == 0:
                batch = self._transitions(self.replay.draw(self.batch_size))
                losses.append(self.stepper.run([batch], None, measure=False).values["loss"])
                loop.updates += 1
                with torch.no_grad():
                    torch._foreach_lerp_(
                        list(self.target.parameters()), list(self.network.parameters()), self.target_rate
                    )
            run.progress.advance(loop.step)
        loop.epoch += 1
        loop.recent.setdefault("return", []).append(total)
        loop.recent.setdefault("length", []).append(float(length))

    @torch.no_grad()
    def _transitions(self, drawn: dict[str, Tensor]) -> Transitions:
        """Remembered transitions with what their actions should be worth by now."""
        values = self.target(drawn["following"])
        chooser = self.network(drawn["following"]) if self.double else values
        expected = values.gather(1, chooser.argmax(1, keepdim=True)).squeeze(1)
        targets = drawn["rewards"] + self.discount * drawn["going_on"] * expected
        return Transitions(drawn["observations"], drawn["actions"], targets)

    def _check(self, losses: list[Tensor]) -> None:
        if losses and not math.isfinite(float(torch.stack(losses).sum())):
            raise NonFiniteError(
                f"the loss is not finite before step {self.loop.step}; the last good checkpoint is kept; lower "
                "optimizer.lr or trainer.clip_norm"
            )

    def _log(self, losses: list[Tensor]) -> None:
        loop = self.loop
        means = {name: sum(numbers) / len(numbers) for name, numbers in loop.recent.items()}
        if losses:
            means["loss"] = float(torch.stack(losses).mean())
            means["learning_rate"] = self.stepper.learning_rate()
        loop.latest, loop.recent = {**means, "epsilon": self._epsilon()}, {}
        losses.clear()
        self.run.log(loop.step, {f"train/{name}": value for name, value in loop.latest.items()})
