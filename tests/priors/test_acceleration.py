"""Faster networks, and batches that fit: the same answers within stated tolerances."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from invdiff.errors import PriorError
from invdiff.inspection import known_images
from invdiff.priors import AffinePrior, GreyPrior, Prior, load_prior
from invdiff.priors.acceleration import Autocast, channels_last, compiled, graphed, with_network
from invdiff.priors.memory import footprint, free_memory, out_of_memory
from invdiff.priors.micro_batching import MicroBatched
from invdiff.priors.network import NetworkPrior

# Of the change, relative to the denoiser's own error: root mean squares, and dB of PSNR.
ANSWER = {torch.bfloat16: 0.06, torch.float16: 0.007}
PSNR = {torch.bfloat16: 0.02, torch.float16: 0.005}
DERIVATIVE = {torch.bfloat16: 0.15, torch.float16: 0.07}
HALVES = [torch.bfloat16, torch.float16]
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(scope="module")
def ct() -> NetworkPrior:
    return load_prior("ct")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def clean(prior: NetworkPrior, size: int = 64) -> Tensor:
    low, high = prior.value_range
    image = known_images(prior.card.channels, size)[-2 if prior.name == "ct" else 0].values
    return low + (high - low) * image[None]


def derivative(prior: Prior, x: Tensor, sigma: Tensor, cotangent: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(prior(leaf, sigma), leaf, cotangent)[0]


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("name", ["ct", "photo"])
@pytest.mark.parametrize("share", [0.002, 0.05, 0.75])
def test_half_precision_keeps_answers_and_derivatives(name, half, share):
    prior = load_prior(name)
    x = clean(prior)
    sigma = torch.tensor(share * (prior.value_range[1] - prior.value_range[0]))
    noisy = x + sigma * noise(*x.shape)
    fast = Autocast(prior, half)
    full, rough = prior(noisy, sigma), fast(noisy, sigma)
    error = (full - x).square().mean()
    assert rough.dtype == full.dtype and not torch.equal(rough, full)
    assert float((rough - full).square().mean() / error) < ANSWER[half] ** 2
    assert abs(float(10 * ((rough - x).square().mean() / error).log10())) < PSNR[half]
    direction = noise(*x.shape, seed=1)
    slope = derivative(prior, noisy, sigma, direction)
    gap = derivative(fast, noisy, sigma, direction) - slope
    assert float(gap.norm() / slope.norm()) < DERIVATIVE[half]


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e6], ids=str)
def test_derivatives_in_float16_do_not_depend_on_the_size_of_the_cotangent(ct, size):
    """float16 ends at 6e-8 and at 65504; each row has a scale of its own, zero rows stay zero."""
    x, sigma = clean(ct).expand(3, -1, -1, -1), torch.tensor(0.05)
    rows = torch.tensor([size, 1.0, 0.0]).reshape(3, 1, 1, 1)
    direction = noise(1, *x.shape[1:], seed=1)
    slope = derivative(Autocast(ct, torch.float16), x, sigma, rows * direction)
    exact = derivative(ct, x, sigma, direction.expand(3, -1, -1, -1))
    for row in range(2):
        gap = slope[row] / float(rows[row]) - exact[row]
        assert float(gap.norm() / exact[row].norm()) < DERIVATIVE[torch.float16]
    assert float(slope[2].abs().max()) == 0


def test_without_the_scale_small_cotangents_vanish_in_float16(ct):
    """What the scale is for: plain autocast loses them."""
    x, sigma = clean(ct), torch.tensor(0.05)
    leaf = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.float16):
        out = ct(leaf, sigma)
    direction = 1e-9 * noise(*x.shape, seed=1)
    (slope,) = torch.autograd.grad(out, leaf, direction)
    exact = derivative(ct, x, sigma, direction)
    assert float((slope - exact).norm() / exact.norm()) > 2 * DERIVATIVE[torch.float16]


def test_what_surrounds_the_network_keeps_its_precision(ct):
    """At sigma = 1e-6 the answer is the image; bfloat16 would round it to 3 digits."""
    x = clean(ct).double()
    out = Autocast(ct)(x, torch.tensor(1e-6, dtype=torch.float64))
    assert out.dtype == torch.float64
    assert float((out - x).abs().max()) < 1e-5


def test_autocast_says_so(ct):
    fast = Autocast(ct, torch.float16)
    assert isinstance(fast, Prior)
    assert fast.name == "ct in float16" and fast.sha256 == ct.sha256
    assert fast.error_variance(torch.tensor(0.1)) == ct.error_variance(torch.tensor(0.1))
    with pytest.raises(ValueError, match="full precision use the prior itself"):
        Autocast(ct, torch.float32)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_differs_by_rounding(channels):
    prior = load_prior("photo", channels=channels) if channels == 1 else load_prior("photo")
    plain = with_network(prior, lambda net: net.to(memory_format=torch.contiguous_format))
    fast = channels_last(plain)
    x, sigma = noise(2, channels, 37, 50), torch.tensor([0.1, 1.0])
    torch.testing.assert_close(fast(x, sigma), plain(x, sigma), rtol=0, atol=1e-5)
    inner = fast.prior if isinstance(fast, GreyPrior) else fast
    weights = [p for p in inner.network.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's own, while it traces
def test_compiled_networks_agree(ct):
    """With the compiler's tracing but without code generation, which takes minutes on one core."""
    fast = compiled(AffinePrior(ct, 2.0, 1.0), backend="aot_eager")
    slow = AffinePrior(ct, 2.0, 1.0)
    x, sigma = noise(2, 1, 32, 48), torch.tensor([0.1, 1.0])
    torch.testing.assert_close(fast(x, sigma), slow(x, sigma), rtol=0, atol=1e-5)
    gap = derivative(fast, x, sigma, x) - derivative(slow, x, sigma, x)
    assert float(gap.abs().max()) < 1e-4


@pytest.mark.parametrize("change", [channels_last, compiled, graphed])
def test_priors_without_a_network_are_refused(change):
    @dataclass(frozen=True)
    class Bare:
        name: str = "bare"

    with pytest.raises(PriorError, match="'bare' has no network to change"):
        change(Bare())


@pytest.mark.skipif(torch.cuda.is_available(), reason="loads onto the GPU there")
def test_graphs_need_a_gpu(ct):
    with pytest.raises(PriorError, match=r"on a GPU, and this one is on \['cpu'\]"):
        graphed(ct)


@pytest.mark.cuda
@cuda
@pytest.mark.parametrize("change", [graphed, compiled, channels_last])
def test_gpu_options_agree(change):
    prior = load_prior("photo", "cuda")
    fast = change(prior)
    for rows in (2, 3, 2):  # a second shape, and the first again
        x = noise(rows, 3, 48, 64, seed=rows).cuda()
        sigma = torch.linspace(0.1, 1, rows, dtype=torch.float64)
        kept = fast(x, sigma)
        again = fast(x + 1, sigma)
        # TF32 convolutions keep 10 bits of mantissa.
        torch.testing.assert_close(kept, prior(x, sigma), rtol=0, atol=5e-3)
        torch.testing.assert_close(again, prior(x + 1, sigma), rtol=0, atol=5e-3)
        gap = derivative(fast, x, sigma, x) - derivative(prior, x, sigma, x)
        assert float(gap.norm() / derivative(prior, x, sigma, x).norm()) < 0.05


@pytest.mark.cuda
@cuda
def test_an_allocation_that_fails_on_a_gpu_is_survived():
    prior = load_prior("ct", "cuda")
    x = noise(64, 1, 256, 256).cuda()
    expected = torch.cat([prior(row[None], torch.tensor(0.3)) for row in x])
    batched = MicroBatched(prior, memory=2**60)  # all rows at once, whatever it takes
    torch.cuda.set_per_process_memory_fraction(
        (torch.cuda.memory_allocated() + 2**30) / torch.cuda.get_device_properties(0).total_memory
    )
    try:
        result = batched(x, torch.tensor(0.3))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    torch.testing.assert_close(result, expected, rtol=0, atol=5e-3)


class Hungry:
    """The identity by way of a known number of bytes, which sees at most ``most`` rows."""

    sigma_min, sigma_max, value_range = 0.01, 10.0, (-1.0, 1.0)
    name, sha256 = "hungry", "0" * 64

    def __init__(self, most: int = 10**6, in_backward: int = 10**6) -> None:
        self.most, self.in_backward, self.seen = most, in_backward, []

    def check_shape(self, shape: tuple[int, ...]) -> None: ...

    def error_variance(self, sigma: Tensor) -> Tensor:
        return sigma.square()

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
        level = sigma.reshape(-1, *[1] * (x.ndim - 1)).to(x)
        return Refusing.apply((3 * x + level).sin(), self.in_backward)


class Refusing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, most):
        ctx.most = most
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        if len(gradient) > ctx.most:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory (simulated)")
        return gradient, None


def test_the_footprint_is_counted_exactly():
    """A row is 4000 bytes of float32; at the peak four such tensors live beside the input."""

    def call(x: Tensor, sigma: Tensor) -> Tensor:
        table = torch.zeros(500)  # 2000 bytes, however many rows
        first = x * 2
        second = first + 1
        del first
        third = second.view(-1).reshape(x.shape) * 2  # a view is no memory
        del second
        return torch.cat([third, third], 1)[:, :1000] + table[0]  # 1 + 2 + 1 rows

    fixed, row = footprint(call, noise(4, 1000), torch.tensor(1.0), derivative=False)
    assert (fixed, row) == (2000, 4 * 4000)


def test_derivatives_take_more(ct):
    x, sigma = noise(1, 1, 64, 64), torch.tensor(0.3)
    plain, tracked = (footprint(ct, x, sigma, derivative) for derivative in (False, True))
    assert tracked.row > 2 * plain.row > 0
    twice = footprint(ct, noise(1, 1, 64, 128), sigma, derivative=True)
    assert twice.row == pytest.approx(2 * tracked.row, rel=0.02)


@pytest.mark.parametrize("per_row", [False, True])
def test_parts_give_the_same_answers_and_derivatives(ct, per_row):
    x = noise(7, 1, 32, 32)
    sigma = torch.linspace(0.05, 2, 7) if per_row else torch.tensor(0.3)
    need = footprint(ct, x, sigma.reshape(-1)[0], derivative=True)
    batched = MicroBatched(ct, memory=int(need.fixed + 3.5 * need.row))
    assert batched.rows(x, sigma, derivative=True) == 3
    # Convolutions of other batch sizes round differently.
    torch.testing.assert_close(batched(x, sigma), ct(x, sigma), rtol=0, atol=2e-5)
    slope = derivative(batched, x, sigma, x)
    torch.testing.assert_close(slope, derivative(ct, x, sigma, x), rtol=1e-3, atol=1e-4)


def test_rows_follow_the_memory():
    prior, x, sigma = Hungry(), noise(9, 1, 16, 16), torch.tensor(0.1)
    need = footprint(prior, x, sigma, derivative=False)
    prior.seen.clear()
    batched = MicroBatched(prior, memory=int(need.fixed + 4.2 * need.row))
    result = batched(x, sigma)
    assert prior.seen == [1, 2, 3, 3, 3]  # two to measure; then 9 in equal parts of at most 4
    assert torch.equal(result, Hungry()(x, sigma))
    prior.seen.clear()
    batched(x, sigma)
    assert prior.seen == [3, 3, 3]  # measured once
    assert torch.equal(batched(x[:1], sigma), Hungry()(x[:1], sigma))


def test_an_allocation_that_fails_makes_the_parts_smaller():
    prior, x, sigma = Hungry(most=3), noise(16, 1, 8, 8), torch.linspace(0.1, 1, 16)
    batched = MicroBatched(prior)
    assert torch.equal(batched(x, sigma), Hungry()(x, sigma))
    assert prior.seen[2:] == [16, 8, 4, *[2] * 8]
    prior.seen.clear()
    batched(x, sigma)
    assert set(prior.seen) == {2}  # it is remembered


@pytest.mark.parametrize(("most", "in_backward"), [(3, 99), (99, 3), (5, 2)])
def test_derivatives_survive_it_too(most, in_backward):
    prior, x, sigma = Hungry(most, in_backward), noise(10, 1, 8, 8), torch.linspace(0.1, 1, 10)
    need = footprint(Hungry(), x, sigma[0], derivative=True)
    batched = MicroBatched(prior, memory=int(need.fixed + 6 * need.row))
    assert torch.equal(derivative(batched, x, sigma, x), derivative(Hungry(), x, sigma, x))


def test_one_row_that_does_not_fit_is_an_error_that_helps():
    with pytest.raises(PriorError, match=r"Not even one image of shape \(1, 8, 8\).*Tiled"):
        MicroBatched(Hungry(most=0))(noise(2, 1, 8, 8), torch.tensor(0.1))


def test_other_errors_pass_through():
    class Broken(Hungry):
        def __call__(self, x, sigma):
            raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        MicroBatched(Broken())(noise(2, 1, 8, 8), torch.tensor(0.1))
    assert out_of_memory(MemoryError()) and not out_of_memory(RuntimeError("shapes"))
    with pytest.raises(ValueError, match="positive number of bytes"):
        MicroBatched(Hungry(), memory=0)


def test_half_precision_outside_holds_in_the_parts_of_a_derivative(ct):
    """The backward pass computes parts again, in the precision of the forward pass."""
    x, sigma = noise(4, 1, 32, 32), torch.tensor(0.3)
    need = footprint(ct, x, sigma, derivative=True)
    small = MicroBatched(ct, memory=int(need.fixed + 2.5 * need.row))
    outside = derivative(Autocast(small), x, sigma, x)
    inside = derivative(replace(small, prior=Autocast(ct)), x, sigma, x)
    torch.testing.assert_close(outside, inside, rtol=0, atol=1e-5)
    assert not torch.allclose(outside, derivative(ct, x, sigma, x), rtol=0, atol=1e-5)


def test_free_memory_is_that_of_this_machine():
    assert 2**20 < free_memory(torch.device("cpu")) < 2**50
    with pytest.raises(ValueError, match="Give memory= in bytes"):
        free_memory(torch.device("meta"))
