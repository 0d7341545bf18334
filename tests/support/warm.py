"""What the server of ``kill_server`` does before it forks: imports, and the first use of what is slow at first."""

import tempfile
from pathlib import Path

import torch
from torch import nn

from dlcli import checkpoint
from dlcli.tracking import Tracker

torch.set_num_threads(1)
_network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 1))
_network(torch.randn(4, 2)).square().mean().backward()
_parameters = list(_network.parameters())
torch.nn.utils.clip_grad_norm_(_parameters, 1.0)
with torch.no_grad():
    torch._foreach_add_(_parameters, [parameter.grad for parameter in _parameters], alpha=-0.1)
with tempfile.TemporaryDirectory() as _folder:
    checkpoint.save(Path(_folder) / "last.pt", {"model": _network.state_dict()}, keep_previous=True)
    checkpoint.load_latest(Path(_folder))
    _tracker = Tracker(Path(_folder))
    _tracker.scalars(0, {"loss": 0.0})
    _tracker.close()
