"""Federated averaging: clients train on data that stay with them, and a server averages what they have learned.

Sources: GDL chapter 15; H. B. McMahan et al., "Communication-efficient learning of deep networks from decentralized
data" (AISTATS 2017).
"""

from __future__ import annotations

import importlib.util
import time
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from dlcli import runtime
from dlcli.data.base import Batches, TensorData, generator
from dlcli.errors import ConfigError
from dlcli.federated import privacy
from dlcli.federated.aggregation import EncryptedRound, PlainRound, Round, TooFewClients
from dlcli.federated.fixed_point import Floats
from dlcli.federated.leak import moved_words, report
from dlcli.federated.masks import MaskedRound
from dlcli.federated.paillier import generate
from dlcli.federated.partition import divide
from dlcli.federated.vectors import assign, flatten, restore, snapshot, unflatten
from dlcli.hyperparameters import Count, Fraction, Ge, Gt, Le, Lt, NonNegativeFloat, PositiveFloat, Probability
from dlcli.registry import TRAINERS
from dlcli.trainers.base import RunContext, Trainer
from dlcli.trainers.evaluation import converted
from dlcli.trainers.federated_client import Trained, train_client
from dlcli.trainers.full_batch import begin, measure, save
from dlcli.trainers.step import losses_of


@TRAINERS.register("federated_averaging")
class FederatedAveragingTrainer(Trainer):
    """Rounds of: some clients take the server's model, train it on their own data, and send how it has moved.

    The server adds up the updates, each weighted by the client's share of all examples, and moves its model by their
    mean over the clients that answered. A round is a function of the model, the run's seed and the round's number, so
    one that was cut off is done again in the same way. With ``noise_multiplier`` it is not: noise and choice of clients
    come from the operating system, as whoever knew their seed could take the noise away. Clients keep no state between
    rounds: what they do not share (frozen parameters, counters) stays as the server has it. The steps of the schedule
    are rounds.

    Recorded for each round beside the means of what the clients' steps log: ``clients`` that answered, ``update_norm``
    of the model's move, ``megabytes_sent`` by all clients (their keys and shares of masks as well), and with noise
    ``epsilon``.
    """

    def __init__(
        self,
        *,
        rounds: Count,
        clients: Count | None,
        partition: Literal["iid", "consecutive", "dirichlet", "column"],
        dirichlet_alpha: PositiveFloat,
        client_fraction: Fraction,
        local_epochs: Count,
        shuffle: bool,
        proximal: NonNegativeFloat,
        secure_aggregation: Literal["none", "masks", "paillier"],
        key_bits: Annotated[int, Ge(1024), Le(8192)],
        drop_out: Probability,
        clip_norm: PositiveFloat | None,
        noise_multiplier: PositiveFloat | None,
        delta: Annotated[float, Gt(0), Lt(1)],
        show_leak: bool,
        eval_every: Count,
        monitor: str,
        precision: Literal["fp32", "fp64"],
        device: str,
    ):
        self.rounds = rounds
        self.clients = clients
        self.partition = partition
        self.dirichlet_alpha = dirichlet_alpha
        self.client_fraction = client_fraction
        self.local_epochs = local_epochs
        self.shuffle = shuffle
        self.proximal = proximal
        self.secure_aggregation = secure_aggregation
        self.key_bits = key_bits
        self.drop_out = drop_out
        self.clip_norm = clip_norm
        self.noise_multiplier = noise_multiplier
        self.delta = delta
        self.show_leak = show_leak
        self.eval_every = eval_every
        self.monitor = monitor
        self.precision = precision
        self.dtype = runtime.input_dtype(precision)

    def check(self, run: RunContext) -> None:
        """Divide the data.

        Raises:
            ConfigError: data that cannot be divided in this way, a client without data, or protection that would not
                protect.
        """
        self.parts = self._divide(run)
        chosen = self._chosen_per_round()
        if self.secure_aggregation != "none" and chosen < 2:
            raise ConfigError(
                f"trainer.secure_aggregation={self.secure_aggregation}: in a round {chosen} of {len(self.parts)} "
                "clients answers, and the sum of one update is that one; use more trainer.clients or a larger "
                "trainer.client_fraction"
            )
        if self.noise_multiplier is not None:
            if self.clip_norm is None:
                raise ConfigError(
                    f"trainer.noise_multiplier={self.noise_multiplier:g} counts in largest norms of an update; set "
                    "trainer.clip_norm"
                )
            if self.secure_aggregation != "none" and self.client_fraction < 1:
                raise ConfigError(
                    f"trainer.noise_multiplier={self.noise_multiplier:g} draws each client on its own, sometimes one "
                    f"alone, whose sum trainer.secure_aggregation={self.secure_aggregation} must not open; use "
                    "trainer.client_fraction=1 or trainer.secure_aggregation=none"
                )
            privacy.require_accountant()
        if self.show_leak and run.data.vocabulary is None:
            raise ConfigError("trainer.show_leak=true: these data have no words; use data=enron_spam")

    def fit(self, run: RunContext) -> str:
        """Train until ``rounds`` are done.

        Raises:
            NonFiniteError: a client's loss is NaN or infinite, or an update does not fit the aggregation's numbers.
            Interrupted: a signal arrived; the state between two rounds is saved in ``last.pt``.
        """
        loop = self.loop = begin(run)
        started = time.perf_counter() - loop.seconds
        schedule = run.build_scheduler(self.rounds, 1)
        if run.resume_state is not None:
            schedule.load_state_dict(run.resume_state["scheduler"])
        if self.secure_aggregation == "paillier":
            self._make_key(run)
        if self.show_leak and loop.step == 0:
            self._show_leak(run, schedule.factor(0))
        while loop.step < self.rounds:
            # The round. A signal ends it, and the model is what it was before.
            start = snapshot(run.model)
            factor = schedule.factor(loop.step)
            logged = self.one_round(run, loop.step, start, factor)
            if logged is None:
                restore(run.model, start)
                save(run, loop, "last", scheduler=schedule.state_dict())
                run.leave_interrupted(loop.step)
            loop.step += 1
            loop.epoch = loop.step * self.local_epochs
            loop.seconds = time.perf_counter() - started
            loop.latest = {**logged, "learning_rate": run.config["optimizer"]["lr"] * factor}
            run.log(loop.step, {f"train/{name}": value for name, value in loop.latest.items()})

            # Once in a while, and at the end: evaluate and save.
            last = loop.step == self.rounds
            if last or loop.step % self.eval_every == 0:
                metric = measure(run, loop, self.monitor, self.dtype, last=last)
                schedule.observe(metric, run.task.metric_directions[self.monitor.partition("/")[2]])
                save(run, loop, "last", scheduler=schedule.state_dict())
        return "the budget of rounds is used"

    def try_out(self, run: RunContext) -> dict[str, float]:
        """The losses of the first client's first batch."""
        batch = self._passes(run, 0, 0)[0][0]
        return losses_of(run.model, run.task, converted(batch, self.dtype))

    def one_round(
        self, run: RunContext, number: int, start: list[Tensor], rate_factor: float
    ) -> dict[str, float] | None:
        """Move the model ``start`` by one round. Returns what to record, or None if a signal arrived."""
        before = flatten(run.model)
        random = generator(run.seed, number)
        chosen = self._choose(random)
        silent = {client for client in chosen if torch.rand((), generator=random) < self.drop_out}
        round_ = self._begin(chosen, len(before) + 1)
        trained = []
        for client in chosen:
            if run.interrupted():
                return None
            if client not in silent:
                trained.append(self.train_one(run, client, number, start, rate_factor))
                round_.server.receive(client, round_.protect(client, self._weighted(client, trained[-1].update)))
        try:
            move = self._mean(round_.finish())
        except TooFewClients as reason:
            run.say(f"round {number + 1}: {reason}; the model stays as it is")
            move = np.zeros_like(before)
        restore(run.model, start)
        assign(run.model, before + move)
        names = trained[0].means if trained else ()
        return {
            **{name: sum(one.means[name] for one in trained) / len(trained) for name in names},
            "clients": float(len(trained)),
            "update_norm": float(np.linalg.norm(move)),
            "megabytes_sent": round_.sent() / 1e6,
            **self._epsilon(number + 1),
        }

    # ------------------------------------------------------------------ clients

    def _divide(self, run: RunContext) -> list[Tensor]:
        """The positions of every client's training examples."""
        data = run.data
        if not isinstance(data, TensorData):
            raise ConfigError(
                "trainer 'federated_averaging' divides single examples among clients; these data have none: use "
                "pictures or a table"
            )
        tensors = data.tensors["train"]
        parts = divide(
            self.partition,
            len(tensors[0]),
            self.clients,
            labels=None if data.train_labels is None else data.train_labels.numpy(force=True),
            owners=None if data.owners is None else data.owners.numpy(force=True),
            alpha=self.dirichlet_alpha,
            seed=run.seed,
        )
        return [torch.from_numpy(rows).to(tensors[0].device) for rows in parts]

    def _chosen_per_round(self) -> int:
        return max(1, round(self.client_fraction * len(self.parts)))

    def _choose(self, random: torch.Generator) -> list[int]:
        """The clients of a round: a fixed number of them; with noise each on its own, as the accountant has it."""
        if self.noise_multiplier is not None:
            drawn = privacy.secret_random().random(len(self.parts)) < self.client_fraction
            return np.flatnonzero(drawn).tolist()
        return sorted(torch.randperm(len(self.parts), generator=random)[: self._chosen_per_round()].tolist())

    def _passes(self, run: RunContext, client: int, number: int, rows: Tensor | None = None) -> list[Batches]:
        """The batches of each pass of a round over a client's data (or ``rows`` of it), in an order of its own."""
        assert isinstance(run.data, TensorData)
        seed = generator(run.seed, client).initial_seed()
        return [
            run.data.batches(
                "train",
                order="shuffled" if self.shuffle else "sequential",
                seed=seed,
                epoch=number * self.local_epochs + local,
                rows=self.parts[client] if rows is None else rows,
            )
            for local in range(self.local_epochs)
        ]

    def train_one(
        self,
        run: RunContext,
        client: int,
        number: int,
        start: list[Tensor],
        rate_factor: float,
        rows: Tensor | None = None,
    ) -> Trained:
        """What a client answers to the model ``start`` in a round, after training on its data (or on ``rows``)."""
        return train_client(
            run,
            start,
            self._passes(run, client, number, rows),
            client=client,
            number=number,
            rate_factor=rate_factor,
            proximal=self.proximal,
            precision=self.precision,
            dtype=self.dtype,
        )

    # ------------------------------------------------------------------ sums

    def _begin(self, chosen: list[int], length: int) -> Round:
        if self.secure_aggregation == "paillier":
            return EncryptedRound(chosen, length, self.key)
        return MaskedRound(chosen, length) if self.secure_aggregation == "masks" else PlainRound(chosen, length)

    def _make_key(self, run: RunContext) -> None:
        """The clients' common key. No sum depends on it, so a resumed run may have another."""
        if importlib.util.find_spec("gmpy2") is None:
            run.say("paillier: gmpy2 would make it ten times faster: pip install 'dlcli[federated]'")
        self.key = generate(self.key_bits)

    def _weighted(self, client: int, update: Floats) -> Floats:
        """What a client sends: its weight times its update, and the weight. With noise all clients weigh the same."""
        if self.clip_norm is not None:
            update = privacy.clipped(update, self.clip_norm)
        weight = len(self.parts[client]) / sum(map(len, self.parts)) if self.noise_multiplier is None else 1.0
        return np.append(weight * update, weight)

    def _mean(self, total: Floats) -> Floats:
        """The model's move from the sum of what the clients have sent.

        Raises:
            TooFewClients: nobody has sent anything.
        """
        if self.noise_multiplier is not None:
            assert self.clip_norm is not None
            noise = privacy.secret_random().normal(scale=self.noise_multiplier * self.clip_norm, size=len(total) - 1)
            mean: Floats = (total[:-1] + noise) / (self.client_fraction * len(self.parts))
        elif total[-1] == 0:
            raise TooFewClients("no client has answered")
        else:
            mean = total[:-1] / total[-1]
        return mean

    def _epsilon(self, rounds: int) -> dict[str, float]:
        if self.noise_multiplier is None:
            return {}
        return {"epsilon": privacy.epsilon(self.noise_multiplier, self.client_fraction, rounds, self.delta)}

    def _show_leak(self, run: RunContext, rate_factor: float) -> None:
        """Say and record what the server reads when the first client has trained on its first text alone."""
        vocabulary, rows = run.data.vocabulary, self.parts[0][:1]
        assert vocabulary is not None
        start = snapshot(run.model)
        update = self.train_one(run, 0, 0, start, rate_factor, rows).update
        restore(run.model, start)
        round_ = self._begin(list(range(min(2, len(self.parts)))), len(update) + 1)
        seen = round_.read(round_.protect(0, self._weighted(0, update)))
        read = moved_words(unflatten(run.model, seen[:-1]), vocabulary)
        written = {vocabulary[number] for number in self._passes(run, 0, 0, rows)[0][0][0].flatten().tolist() if number}
        text = report(read, written, vocabulary)
        run.say(f"leak   {text}")
        run.note(0, "train/leak", text)
