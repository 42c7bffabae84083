"""torchdiffeq on DETEST's 25 problems, beside flowmatch:

    detest > ours.csv; detest reference > reference.txt      (the C++ program of the same name)
    python detest.py ours.csv reference.txt [method]

Prints a table in Markdown: evaluations and errors of both, and how ours stand to theirs.
Needs torch and torchdiffeq.
"""
import math
import sys

import torch
from torchdiffeq import odeint

K2, SUN = 2.95912208286, 1.00000597682
MASS = torch.tensor([0.000954786104043, 0.000285583733151, 0.0000437273164546, 0.0000517759138449,
                     0.00000277777777778], dtype=torch.float64)


def s(*values):
    return torch.stack([torch.as_tensor(v, dtype=torch.float64) for v in values])


def five_bodies(t, y):
    x = y[:15].view(5, 3)
    r3 = (x ** 2).sum(1) ** 1.5
    apart = x[None] - x[:, None]  # [j, k]: from body j to body k
    d3 = (apart ** 2).sum(2) ** 1.5 + torch.eye(5, dtype=y.dtype)
    pull = (MASS[None, :, None] * (apart / d3[..., None] - (x / r3[:, None])[None]))
    pull = pull * (1 - torch.eye(5, dtype=y.dtype))[..., None]
    a = K2 * (-(SUN + MASS)[:, None] * x / r3[:, None] + pull.sum(1))
    return torch.cat([y[15:], a.flatten()])


def orbit(t, y):
    r3 = (y[0] ** 2 + y[1] ** 2) ** 1.5
    return s(y[2], y[3], -y[0] / r3, -y[1] / r3)


def b4(t, y):
    r = torch.hypot(y[0], y[1])
    return s(-y[1] - y[0] * y[2] / r, y[0] - y[1] * y[2] / r, y[0] / r)


def shifted(y, n):
    return torch.cat([torch.zeros(n, dtype=y.dtype), y[:-n]])


def c1(t, y):
    out = y.clone()
    out[-1] = 0
    return shifted(y, 1) - out


def c2(t, y):
    n = torch.arange(10, dtype=y.dtype)
    out = (n + 1) * y
    out[-1] = 0
    return n * shifted(y, 1) - out


def c3(t, y):
    return shifted(y, 1) - 2 * y + torch.cat([y[1:], torch.zeros(1, dtype=y.dtype)])


def unit(n):
    return [1.0] + [0.0] * (n - 1)


PLANETS = [3.42947415189, 3.35386959711, 1.35494901715, 6.64145542550, 5.97156957878, 2.18231499728,
           11.2630437207, 14.6952576794, 6.27960525067, -30.1552268759, 1.65699966404,
           1.43785752721, -21.1238353380, 28.4465098142, 15.3882659679, -0.557160570446,
           0.505696783289, 0.230578543901, -0.415570776342, 0.365682722812, 0.169143213293,
           -0.325325669158, 0.189706021964, 0.0877265322780, -0.0240476254170, -0.287659532608,
           -0.117219543175, -0.176860753121, -0.216393453025, -0.0148647893090]

PROBLEMS = {
    "A1": (lambda t, y: -y, [1]),
    "A2": (lambda t, y: -y ** 3 / 2, [1]),
    "A3": (lambda t, y: y * torch.cos(t), [1]),
    "A4": (lambda t, y: y / 4 * (1 - y / 20), [1]),
    "A5": (lambda t, y: (y - t) / (y + t), [4]),
    "B1": (lambda t, y: s(2 * (y[0] - y[0] * y[1]), -(y[1] - y[0] * y[1])), [1, 3]),
    "B2": (lambda t, y: s(-y[0] + y[1], y[0] - 2 * y[1] + y[2], y[1] - y[2]), [2, 0, 1]),
    "B3": (lambda t, y: s(-y[0], y[0] - y[1] ** 2, y[1] ** 2), [1, 0, 0]),
    "B4": (b4, [3, 0, 0]),
    "B5": (lambda t, y: s(y[1] * y[2], -y[0] * y[2], -0.51 * y[0] * y[1]), [0, 1, 1]),
    "C1": (c1, unit(10)),
    "C2": (c2, unit(10)),
    "C3": (c3, unit(10)),
    "C4": (c3, unit(51)),
    "C5": (five_bodies, PLANETS),
    **{f"D{i + 1}": (orbit, [1 - e, 0, 0, math.sqrt((1 + e) / (1 - e))])
       for i, e in enumerate((0.1, 0.3, 0.5, 0.7, 0.9))},
    "E1": (lambda t, y: s(y[1], -(y[1] / (t + 1) + (1 - 0.25 / (t + 1) ** 2) * y[0])),
           [0.6713967071418030, 0.09540051444747446]),
    "E2": (lambda t, y: s(y[1], (1 - y[0] ** 2) * y[1] - y[0]), [2, 0]),
    "E3": (lambda t, y: s(y[1], y[0] ** 3 / 6 - y[0] + 2 * torch.sin(2.78535 * t)), [0, 0]),
    "E4": (lambda t, y: s(y[1], 0.032 - 0.4 * y[1] ** 2), [30, 0]),
    "E5": (lambda t, y: s(y[1], torch.sqrt(1 + y[1] ** 2) / (25 - t)), [0, 0]),
}


def theirs(f, start, tolerance, reference, method):
    evaluations = 0

    def counted(t, y):
        nonlocal evaluations
        evaluations += 1
        return f(t, y)

    y = odeint(counted, torch.tensor(start, dtype=torch.float64),
               torch.tensor([0.0, 20.0], dtype=torch.float64), rtol=tolerance, atol=tolerance,
               method=method)[-1]
    return evaluations, (y - reference).norm().item()


def main():
    ours = {}
    for line in open(sys.argv[1]):
        name, tolerance, evaluations, error = line.strip().split(",")
        ours[name, float(tolerance)] = int(evaluations), float(error)
    references = {}
    for line in open(sys.argv[2]):
        name, *values = line.split()
        references[name] = torch.tensor([float(v) for v in values], dtype=torch.float64)
    method = sys.argv[3] if len(sys.argv) > 3 else "dopri5"
    logs = [0.0, 0.0]
    worse = []
    print("| problem | tolerance | evaluations | torchdiffeq | error | torchdiffeq |")
    print("|---|---|---|---|---|---|")
    for (name, tolerance), (evaluations, error) in ours.items():
        f, start = PROBLEMS[name]
        their_evaluations, their_error = theirs(f, start, tolerance, references[name], method)
        print(f"| {name} | {tolerance:g} | {evaluations} | {their_evaluations} | {error:.2e} | "
              f"{their_error:.2e} |")
        logs[0] += math.log(evaluations / their_evaluations)
        logs[1] += math.log(error / their_error)
        if evaluations > 1.05 * their_evaluations or error > max(2 * their_error, tolerance):
            worse.append(f"{name} at {tolerance:g}")
    n = len(ours)
    print(f"\nGeometric means of ours / torchdiffeq's: evaluations {math.exp(logs[0] / n):.3f}, "
          f"errors {math.exp(logs[1] / n):.3f}.")
    print("More than 1.05 x the evaluations, or an error above both 2 x and the tolerance: "
          + (", ".join(worse) or "nowhere") + ".")


main()
