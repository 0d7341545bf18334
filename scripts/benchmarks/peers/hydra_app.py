"""A bare Hydra application whose job trains a linear layer for a few steps: ``python hydra_app.py +seed=0 …``."""

import sys

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=None)
def main(config: DictConfig) -> None:
    import torch
    from torch.nn import functional as F
    from torch.utils.tensorboard import SummaryWriter

    torch.manual_seed(config.seed)
    model = torch.nn.Linear(64, 10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    folder = hydra.core.hydra_config.HydraConfig.get().runtime.output_dir
    writer = SummaryWriter(folder)
    for step in range(5):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(torch.rand(32, 64)), torch.randint(10, (32,)))
        loss.backward()
        optimizer.step()
        writer.add_scalar("train/loss", loss.item(), step)
    torch.save(model.state_dict(), f"{folder}/last.pt")
    writer.close()


if __name__ == "__main__":
    if "hydra/launcher=joblib" in sys.argv:
        import hydra_plugins.hydra_joblib_launcher  # noqa: F401  (Hydra's own complaint does not end with the cause)
    main()
