"""The shortest honest script: one AdamW step of a linear layer on digits, a TensorBoard log and a checkpoint.

Called as ``python plain_script.py FOLDER STEPS``.
"""

import sys

import torch
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

folder, steps = sys.argv[1], int(sys.argv[2])
torch.manual_seed(0)
model = torch.nn.Linear(64, 10)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
writer = SummaryWriter(folder)
for step in range(steps):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(torch.rand(32, 64)), torch.randint(10, (32,)))
    loss.backward()
    optimizer.step()
    writer.add_scalar("train/loss", loss.item(), step)
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, f"{folder}/last.pt")
writer.close()
