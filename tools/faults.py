"""The faults that `tools.planted_faults` plants, each one line of the library.

They are of the kinds that are made in earnest: a factor ½, a sign, a transposed matrix, an
eigenvalue of the wrong end, an exponent off by one, a tolerance or a seed that is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A fault: its line before and after, the chapter whose claims and tests must notice it.

    `parameters` are given to the chapter, to make it shorter where its defaults take long.
    """

    name: str
    what: str
    file: str
    before: str
    after: str
    chapter: str
    tests: str
    parameters: tuple[tuple[str, str], ...] = ()


#: Chapter 11 on the linear network alone, a tenth as long, from a start that a seed draws.
_SHORT_LINEAR = (
    ("activations", "['linear']"),
    ("iterations", "1000"),
    ("spectrum_times", "10"),
    ("start", "2"),
)

FAULTS = (
    Fault(
        "descent-half-step",
        "GD takes half of the step",
        "gfgd/descent.py",
        "update(descent.point, step_size * gradient)",
        "update(descent.point, 0.5 * step_size * gradient)",
        "01",
        "tests/test_descent.py",
    ),
    Fault(
        "flow-tolerance-ignored",
        "the flow is integrated at a fixed loose tolerance",
        "gfgd/flow.py",
        'accuracy = {"rtol": rtol, "atol": atol, **options}',
        'accuracy = {"rtol": 1e-2, "atol": 1e-2, **options}',
        "01",
        "tests/test_flow.py",
    ),
    Fault(
        "fundamental-sign-of-rate",
        "e^{mh} becomes e^{−mh} in the fundamental bound",
        "gfgd/bounds/distance.py",
        "return _accumulate(rate * widths, torch.where(defect == 0, 0.0, gain))",
        "return _accumulate(-rate * widths, torch.where(defect == 0, 0.0, gain))",
        "02",
        "tests/bounds/test_distance.py",
    ),
    Fault(
        "euler-order-of-method",
        "the midpoint rule is replaced by Euler's",
        "gfgd/flow.py",
        "states = odeint(self.__call__, start, times, method=self.method, options=accuracy)",
        "states = odeint(self.__call__, start, times, method=self.method.replace("
        '"midpoint", "euler"), options=accuracy)',
        "02",
        "tests/test_flow.py",
    ),
    Fault(
        "euler-bound-half",
        "Euler's bound loses a factor 2",
        "gfgd/bounds/distance.py",
        "smoothness * field_norms * step_size**2 * _phi2(growth))",
        "smoothness * field_norms * step_size**2 * _phi2(growth) / 2)",
        "03",
        "tests/bounds/test_distance.py",
    ),
    Fault(
        "leading-order-without-half",
        "u' = −H(u + ∇f) in place of −H(u + ½∇f)",
        "gfgd/bounds/leading_order.py",
        "hessian(torch.add(coefficient, gradient, alpha=0.5))",
        "hessian(torch.add(coefficient, gradient))",
        "03",
        "tests/bounds/test_leading_order.py",
    ),
    Fault(
        "signed-without-half",
        "the signed formula loses its ½",
        "gfgd/bounds/distance.py",
        "bound = 0.5 * torch.exp(grown",
        "bound = torch.exp(grown",
        "03",
        "tests/bounds/test_distance.py",
    ),
    Fault(
        "signed-gradient-frozen",
        "the gradient at the start stands for all gradients",
        "gfgd/bounds/distance.py",
        "factors = (1 + step_size * rate).clamp(min=0)",
        "factors = torch.ones_like(rate)",
        "03",
        "tests/bounds/test_distance.py",
    ),
    Fault(
        "convexity-sign",
        "the sign of λ is lost in the three cases",
        "gfgd/bounds/distance.py",
        "growth = torch.exp(step_size * convexity.clamp(min=0) - convexity * times)",
        "growth = torch.exp(step_size * convexity.clamp(min=0) + convexity * times)",
        "04",
        "tests/bounds/test_distance.py",
    ),
    Fault(
        "deep-linear-bound-depth",
        "n − 2 in place of n − 1 in the bound on λmin",
        "gfgd/bounds/curvature.py",
        "return -(len(weights) - 1) * torch.linalg.matrix_norm(residual) * _all_but_two(norms)",
        "return -(len(weights) - 2) * torch.linalg.matrix_norm(residual) * _all_but_two(norms)",
        "05",
        "tests/bounds/test_curvature.py",
    ),
    Fault(
        "pairwise-transposed",
        "a factor acts from the wrong side in the pairwise bound",
        "gfgd/bounds/curvature.py",
        "edge = edge @ weight.mT\n            norm = torch.linalg.matrix_norm(edge, 2)",
        "edge = edge @ weight.mT\n            norm = torch.linalg.matrix_norm(edge, 2) / 2",
        "05",
        "tests/bounds/test_curvature.py",
    ),
    Fault(
        "homogeneous-slope-power",
        "slope^{n−2} in place of slope^{n−1}, and n − 2 in place of n − 1",
        "gfgd/bounds/curvature.py",
        "return -(depth - 1) * slope ** (depth - 1) * size * _all_but_two(norms)",
        "return -(depth - 2) * slope ** (depth - 2) * size * _all_but_two(norms)",
        "05",
        "tests/bounds/test_curvature.py",
    ),
    Fault(
        "aligned-eigenvalue-depth",
        "n − 2 in place of n − 1 in λmin at an aligned point",
        "gfgd/bounds/curvature.py",
        "lowest = torch.minimum(-gap, depth * radius - (depth - 1) * gap)",
        "lowest = torch.minimum(-gap, depth * radius - (depth - 2) * gap)",
        "06",
        "tests/bounds/test_curvature.py",
    ),
    Fault(
        "reduced-flow-exponent",
        "r^{2−2/n} becomes r^{1−2/n} in the reduced flow",
        "gfgd/networks/linear.py",
        "outward = -depth * pace * radius * (radius - cosine * target_norm)",
        "outward = -depth * pace * (radius - cosine * target_norm)",
        "07",
        "tests/networks/test_linear.py",
    ),
    Fault(
        "reduced-flow-turning",
        "the cosine turns n times too fast",
        "gfgd/networks/linear.py",
        "turning = torch.where(fixed, 0.0, target_norm * pace)",
        "turning = torch.where(fixed, 0.0, depth * target_norm * pace)",
        "07",
        "tests/networks/test_linear.py",
    ),
    Fault(
        "end-to-end-without-projection",
        "n in place of n − 1 in the end-to-end dynamics",
        "gfgd/networks/linear.py",
        "return -(radius ** (2 - 2 / n)) * (residual + (n - 1) * along)",
        "return -(radius ** (2 - 2 / n)) * (residual + n * along)",
        "07",
        "tests/networks/test_linear.py",
    ),
    Fault(
        "certificate-defect-halved",
        "the defect of a step is taken at half its size",
        "gfgd/bounds/certificates.py",
        "_nearby(_per_cell(bend), window) / 2,",
        "_nearby(_per_cell(bend), window) / 200,",
        "08",
        "tests/bounds/test_certificates.py",
    ),
    Fault(
        "convergence-radius-free",
        "the length of the steps is left out of the ball of convergence",
        "gfgd/bounds/certificates.py",
        "distance + math.sqrt(2 * loss / rate) / slack < radius",
        "distance + 0 * math.sqrt(2 * loss / rate) / slack < radius",
        "08",
        "tests/bounds/test_certificates.py",
    ),
    Fault(
        "plane-rate-turned",
        "n − 1 in place of √(n − 1) in the rate at which errors grow in three coordinates",
        "gfgd/bounds/convergence.py",
        "(-ahead).clamp(min=0) + (depth - 1) ** 0.5 * across",
        "(-ahead).clamp(min=0) + (depth - 1) * across",
        "09",
        "tests/bounds/test_convergence.py",
    ),
    Fault(
        "effective-rank-of-squares",
        "the effective rank is that of σ² in place of σ",
        "gfgd/networks/linear.py",
        "shares = values / values.sum(-1, keepdim=True)",
        "shares = values**2 / (values**2).sum(-1, keepdim=True)",
        "10",
        "tests/networks/test_linear.py",
    ),
    Fault(
        "seed-ignored",
        "every seed gives the start of seed 5",
        "gfgd/networks/fully_connected_networks.py",
        "generator = torch.Generator().manual_seed(seed)",
        "generator = torch.Generator().manual_seed(5)",
        "11",
        "tests/networks/test_networks.py",
        _SHORT_LINEAR,
    ),
    Fault(
        "loss-without-mean",
        "the loss is averaged over one sample too many",
        "gfgd/networks/network.py",
        "return self.loss(outputs, targets).sum(-1) / len(self.inputs)",
        "return self.loss(outputs, targets).sum(-1) / (len(self.inputs) + 100)",
        "11",
        "tests/networks/test_networks.py",
        _SHORT_LINEAR,
    ),
    Fault(
        "eigenvalue-of-the-wrong-end",
        "λmin is read off the second smallest Ritz value",
        "gfgd/eigenpair_search.py",
        "low = range(min(smallest, size))",
        "low = range(1, min(smallest, size - 1) + 1)",
        "11",
        "tests/test_spectrum.py",
        _SHORT_LINEAR,
    ),
    Fault(
        "leading-order-halved",
        "the leading order is taken at half its size",
        "gfgd/bounds/leading_order.py",
        "return step_size * self.coefficient.norm(dim=-1)",
        "return 0.5 * step_size * self.coefficient.norm(dim=-1)",
        "03",
        "tests/bounds/test_leading_order.py",
    ),
    Fault(
        "residual-curvature-halved",
        "the verified bound on λmin is half of what was verified",
        "gfgd/verified/residual_curvature.py",
        "return (Upper(shift) + lacking + rounding) * self.stretch + self.error",
        "return (Upper(shift / 2) + lacking + rounding) * self.stretch + self.error",
        "14",
        "tests/verified/test_residual_curvature.py",
        (("smooth", "[]"), ("iterations", "1000")),
    ),
    Fault(
        "quantum-doubled",
        "the spacing of floating-point numbers is taken twice too large",
        "gfgd/imperfections/rounding.py",
        "quantum = spacing(point, dtype)",
        "quantum = 2 * spacing(point, dtype)",
        "15",
        "tests/imperfections/test_rounding.py",
    ),
    Fault(
        "carry-with-the-wrong-sign",
        "compensated summation adds the carry with the wrong sign",
        "gfgd/imperfections/rounding.py",
        "addend = -step if self.carry is None else self.carry - step",
        "addend = -step if self.carry is None else -self.carry - step",
        "15",
        "tests/imperfections/test_rounding.py",
    ),
    Fault(
        "kink-strength-halved",
        "a gate's jump is taken at half its size",
        "gfgd/imperfections/gates.py",
        "strengths=(alpha - alpha_bar) * torch.cat(pulls, dim=-1),",
        "strengths=0.5 * (alpha - alpha_bar) * torch.cat(pulls, dim=-1),",
        "16",
        "tests/imperfections/test_gates.py",
    ),
    Fault(
        "gate-part-with-a-sign",
        "a gate's part of a distance takes the side on which a run is, z − z′ for |z − z′|",
        "gfgd/imperfections/budget.py",
        "return -c * (z - z_other).abs() * differs",
        "return -c * (z - z_other) * differs",
        "16",
        "tests/imperfections/test_budget.py",
    ),
    Fault(
        "barrett-dherin-quarter",
        "η/4 in place of η/2 in the modified flow",
        "gfgd/large_steps/modified.py",
        "return -gradient - step_size / 2 * hessian(gradient)",
        "return -gradient - step_size / 4 * hessian(gradient)",
        "17",
        "tests/large_steps/test_modified.py",
    ),
    Fault(
        "next-order-third",
        "1/6 in place of 1/12 in front of the third derivative",
        "gfgd/large_steps/modified.py",
        "step_size**2 * (twice / 3 + third / 12)",
        "step_size**2 * (twice / 3 + third / 6)",
        "17",
        "tests/large_steps/test_modified.py",
    ),
    Fault(
        "central-half-oscillation",
        "the oscillation pushes half as much as it should",
        "gfgd/large_steps/central.py",
        "velocity = velocity - 0.5 * weights @ slopes",
        "velocity = velocity - 0.25 * weights @ slopes",
        "19",
        "tests/large_steps/test_central.py",
    ),
)
