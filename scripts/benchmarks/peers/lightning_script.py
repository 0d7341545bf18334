"""What a lightning-hydra-template run comes down to: Hydra composes, Lightning trains one step, logs and saves.

Called as ``python lightning_script.py folder=FOLDER``. The template itself adds its own utilities on top.
"""

import hydra
import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)

    def training_step(self, batch, index):
        images, labels = batch
        loss = F.cross_entropy(self.layer(images), labels)
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


@hydra.main(version_base="1.3", config_path=None)
def main(config: DictConfig) -> None:
    lightning.seed_everything(0)
    data = DataLoader(TensorDataset(torch.rand(32, 64), torch.randint(10, (32,))), batch_size=32)
    trainer = lightning.Trainer(
        default_root_dir=config.folder,
        accelerator="cpu",
        max_steps=1,
        log_every_n_steps=1,
        logger=TensorBoardLogger(config.folder),
        callbacks=[ModelCheckpoint(dirpath=config.folder)],
    )
    trainer.fit(Module(), data)


if __name__ == "__main__":
    main()
