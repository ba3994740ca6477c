"""A network from code to code: the moments of one Gaussian from a draw of another."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from lapcore.nn.blocks import Moments, code_moments
from lapcore.nn.condition import Condition, LabelBias


class CodeMoments(nn.Module):
    """Code (N, inputs) -> mean and bounded log-variance, (N, outputs) each: two hidden layers with ReLU, linear.

    start: where the log-variances start; the means start at 0. Labels are added to the first hidden layer.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, condition: Condition, start: float) -> None:
        super().__init__()
        self.start = start
        self.first = nn.Linear(inputs, hidden)
        self.label = LabelBias(condition, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.moments = nn.Linear(hidden, 2 * outputs)
        nn.init.zeros_(self.moments.weight)
        nn.init.zeros_(self.moments.bias)

    def forward(self, code: Tensor, labels: Tensor | None) -> Moments:
        features = F.relu(self.label(self.first(code), labels))
        return code_moments(self.moments(F.relu(self.second(features))), self.start)
