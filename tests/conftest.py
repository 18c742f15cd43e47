"""What every test shares."""

import matplotlib
import torch

matplotlib.use("Agg")
torch.set_num_threads(1)  # the problems are small: threads would only wait for each other
