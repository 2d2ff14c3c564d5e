"""Values, first and second derivatives at zeros, ties, kinks, infinities and NaN are PyTorch's: see `special_points.py`.

What PyTorch computes is stored in `pytorch_facts.json`; where we differ, and why, stands in `DIFFERENT` below."""

import json
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import flambeau as fb
import flambeau.nn.functional as F
import numpy as np
import pytest
import special_points
import support
from flambeau.runtime.recorder import Tensor

FACTS = json.loads((Path(__file__).parent / "pytorch_facts.json").read_text())["points"]
NAN = np.nan
A_NUMBER, ANYTHING = object(), object()


class Different(NamedTuple):
    """Cases and keys ("value", "first 0": the derivative by operand 0, ...), both patterns; where (of PyTorch's result and
    the operands that have its shape); what we give there."""

    cases: str
    keys: str
    where: object
    ours: object


def theirs_is_nan(theirs, *operands):
    return np.isnan(theirs)


def nan_of_numbers(theirs, *operands):
    return np.isnan(theirs) & ~np.any([np.isnan(x) for x in operands], axis=0)


DIFFERENT = [
    # PyTorch's second derivative is NaN by 0 * inf, or by an overflow on the way, where there is a number.
    Different(r"pow base 0(\.0)?", "second", nan_of_numbers, 0.0),
    Different("addcdiv", "second 2", theirs_is_nan, ANYTHING),
    Different("gelu functional|mish functional", "second", lambda r, x: np.isnan(r) & np.isfinite(x), 0.0),
    Different("norm.*|normalize", "first|second", theirs_is_nan, ANYTHING),
    Different("prod.*", "first|second", theirs_is_nan, ANYTHING),  # the product of the others, no quotient
    # An exponent of 0.5 is a square root, to the bit. PyTorch drops mixed second derivatives at a base or exponent of 0.
    Different("pow tensors", "value|first 0", lambda r, x, y: (y == 0.5) & ((x == 0) | (x == -np.inf)), ANYTHING),
    Different("pow tensors", "second", lambda r, x, y: (x == 0) | (y == 0) | ((x == -np.inf) & (y == 0.5)), ANYTHING),
    # The second derivative at a kink: PyTorch's is of the other side than its first one.
    Different("[sc]?elu .*", "second", lambda r, x: x == 0, A_NUMBER),
    Different("softplus functional", "second", lambda r, x: x == 20, A_NUMBER),
    Different("softplus 2", "second", lambda r, x: x == 2, A_NUMBER),
    Different("(huber|smooth_l1)_loss", "second", lambda r, x, y: np.isnan(x), A_NUMBER),
    Different("prelu", "second", lambda r, *xs: xs[0] == 0 if r.size > 1 else np.isfinite(r), A_NUMBER),
    # Poles that PyTorch's sine of rounded multiples of pi misses; NaN by inf - inf or inf * 0 on the way.
    Different("lgamma", "second", lambda r, x: (x < 0) & (x == np.rint(x)), ANYTHING),
    Different("digamma", "first", lambda r, x: (x < 0) & (x == np.rint(x)), ANYTHING),
    Different("digamma|polygamma|logit eps|log_ndtr|ldexp|i[01]", ".*", nan_of_numbers, ANYTHING),
    Different("log_ndtr", "second", lambda r, x: x == -1e3, A_NUMBER),  # PyTorch loses digits
    Different("atan2|copysign.*|sinc", "second", theirs_is_nan, ANYTHING),
    Different("sinc|i1", "first|second", lambda r, x: np.abs(x) < 1e-6, A_NUMBER),  # PyTorch loses digits
    Different("i[01]e?|logit eps", "first|second", lambda r, x: np.isnan(x), NAN),  # PyTorch: 0.5 or 0 for i1 of NaN
    # A logarithm's infinity times 0 is 0 here, in derivatives as in the value.
    Different(
        "xlog.*", "first|second", lambda r, x, y: (x == 0) & (np.isinf(r) | np.isnan(r) | (y < 0)) & ~np.isnan(y), 0.0
    ),
    Different("logaddexp2?", "first|second", lambda r, x, y: np.isnan(r) & ~np.isnan(x) & ~np.isnan(y), ANYTHING),
    # PyTorch divides by no tie when the largest is NaN, unless all dims are reduced by `max`.
    Different("am(ax|in).*", "first", theirs_is_nan, A_NUMBER),
    Different("var.*", "first", lambda r, x: np.isinf(r), NAN),  # of an infinite mean
    Different("heaviside", "first", lambda r, x: np.isnan(x), NAN),  # PyTorch: heaviside(NaN) is 0
    Different(
        "clamp tensors", "first 2", lambda r, x, low, high: np.isnan(low) | np.isnan(x), 0.0
    ),  # what is NaN gives no gradient
    Different("scatter_reduce am(ax|in)", "first|second", theirs_is_nan, A_NUMBER),
    Different("scatter_reduce prod", "first|second", theirs_is_nan, ANYTHING),
    Different("hardswish functional", "value", lambda r, x: x == -np.inf, 0.0),
    Different("binary_cross_entropy", ".*", lambda r, p, t: (p == 0) | (p == 1), ANYTHING),  # see docs/differences.md
    Different("soft_margin_loss", "first|second", lambda r, x: np.isinf(x), A_NUMBER),
    Different("kl_div", "(first|second) 1", lambda r, x, t: t == 0, ANYTHING),
]


def check(name, key, ours, theirs, operands):
    """Equal but for rounding, and for what `DIFFERENT` says."""
    operands = [np.asarray(x, float) for x in operands]
    theirs = np.asarray(theirs, float)
    if name == "hardsigmoid functional" and key.startswith("first"):
        theirs = theirs / float(np.float32(1 / 6)) / 6  # PyTorch's slope is a sixth in float32
    compared = np.ones(theirs.shape, bool)
    for rule in DIFFERENT:
        if not (re.fullmatch(rule.cases, name) and re.match(rule.keys, key)):
            continue
        here = rule.where(theirs, *operands)
        if rule.ours is A_NUMBER:
            assert not np.isnan(np.asarray(ours)[here]).any(), (name, key)
        if isinstance(rule.ours, float):
            theirs = np.where(here, rule.ours, theirs)
        else:
            compared &= ~here
    np.testing.assert_allclose(np.asarray(ours)[compared], theirs[compared], 1e-9, 1e-12, err_msg=f"{name}, {key}")


def spread(gradients, operands):
    """Gradients as arrays; none is 0 everywhere."""
    given = gradients or [None] * len(operands)
    return [np.zeros(np.shape(x)) if g is None else np.asarray(g, float) for g, x in zip(given, operands, strict=True)]


def tagged():
    """Every case, tagged with the rows of `docs/features.md` that name its functions and nothing else."""
    features_page = support.tool("features_page")
    rows = features_page.rows_of(features_page.PAGE.read_text())
    return [
        pytest.param(name, marks=pytest.mark.accept(*rows[name]) if name in rows else ())
        for name in special_points.CASES
    ]


@pytest.mark.filterwarnings("ignore:.*target's shape")
@pytest.mark.parametrize("name", tagged())
def test_derivatives_at_special_points_are_those_of_pytorch(name):
    operands, theirs = special_points.CASES[name].operands, FACTS[name]
    with fb.compiler_options(mode="off"):
        ours = special_points.facts(fb, name)
    check(name, "value", ours["value"], theirs["value"], operands)
    for order in ("first", "second"):
        if theirs[order] == "not implemented":
            continue
        for i, (x, y) in enumerate(zip(spread(ours[order], operands), spread(theirs[order], operands), strict=True)):
            check(name, f"{order} {i}", x, y, operands)


def test_the_stored_facts_are_of_these_cases():
    assert list(FACTS) == list(special_points.CASES)


def rounded(x):
    """To 13 digits: in the last ones PyTorch differs from processor to processor."""
    if isinstance(x, dict):
        return {k: rounded(v) for k, v in x.items()}
    return [rounded(v) for v in x] if isinstance(x, list) else float(f"{x:.13g}") if isinstance(x, float) else x


def test_the_facts_are_what_pytorch_says():
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in special_points.CASES:
            np.testing.assert_equal(rounded(special_points.facts(torch, name)), rounded(FACTS[name]), err_msg=name)


# ---- nothing is left out ------------------------------------------------------------------------------------------

#: Public callables that need no case, and why.
LEFT_OUT = {
    "the result has no gradient": """all allclose any argmax argmin argwhere bitwise_and bitwise_left_shift bitwise_not bitwise_or
        gcd lcm isneginf isposinf isreal nextafter signbit
        bitwise_right_shift bitwise_xor count_nonzero eq equal ge gt isclose isfinite isinf isnan le logical_and logical_not
        logical_or logical_xor lt ne one_hot argsort searchsorted bucketize isin unique unique_consecutive bincount histc
        histogram histogramdd nonzero nonzero_static bool byte char short int long is_contiguous is_floating_point
        is_same_size hash_tensor""",
    "it makes tensors or draws numbers": """bartlett_window blackman_window hamming_window hann_window kaiser_window logspace
        range empty_permuted empty_strided new_empty_strided normal multinomial arange as_tensor asarray bernoulli empty
        empty_like eye from_buffer from_dlpack from_numpy frombuffer full full_like linspace ones ones_like rand rand_like
        randint randint_like randn randn_like randperm tensor zeros zeros_like new_empty new_full new_ones new_tensor
        new_zeros dropout binomial poisson gumbel_softmax scalar_tensor
        dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout""",
    "it is another name of one that has a case": """absolute arccos arccosh arcsin arcsinh arctan arctan2 arctanh expit fix
        gammaln greater greater_equal less less_equal multigammaln not_equal psi sgn clip concat concatenate divide
        expand_as multiply negative reshape_as subtract true_divide view_as""",
    "it converts or copies": "bfloat16 cpu cuda detach double float half type type_as",
    "it joins, cuts, turns or repeats, as cat, flip and index_select do, which have cases": """atleast_1d atleast_2d atleast_3d
        block_diag cartesian_prod column_stack combinations diag diag_embed diagflat diagonal dsplit dstack fliplr flipud hsplit
        hstack moveaxis ravel repeat_interleave rot90 row_stack swapdims tensor_split tril_indices triu_indices unravel_index
        unsafe_chunk unsafe_split vsplit vstack diagonal_scatter select_scatter slice_scatter""",
    "it copies what a view shows, which has a case or is left out": """alias_copy detach_copy diagonal_copy expand_copy narrow_copy
        permute_copy select_copy slice_copy split_copy split_with_sizes_copy squeeze_copy t_copy transpose_copy unbind_copy
        unsqueeze_copy view_copy view_as_complex_copy view_as_real_copy""",
    "it picks elements by their order, as gather does at positions, which has a case": """sort msort topk kthvalue median
        nanmedian mode quantile nanquantile""",
    "it multiplies or adds up, as cumprod and sum do, which have cases": "vander trace sum_to_size",
    "it is a convolution: sums of products have no special points": """conv1d conv2d conv3d conv_transpose1d conv_transpose2d
        conv_transpose3d""",
    "it is a product, as matmul is, which has a case": """einsum tensordot inner kron vdot cross addbmm baddbmm addmv addr
        chain_matmul matrix_power bilinear""",
    "it is a norm of a difference, or of slices, as norm and normalize are of rows, which have cases": """cdist pdist dist
        pairwise_distance cosine_similarity renorm""",
    "it runs the user's functions": "cond while_loop vmap scan map fori_loop switch",
    "it is of matrices, whose edges test_linear_algebra.py goes through": """cholesky cholesky_inverse cholesky_solve det geqrf
        slogdet logdet inverse pinverse lu lu_solve lu_unpack matrix_exp orgqr ormqr pca_lowrank qr svd svd_lowrank
        triangular_solve""",
    "it adds up, subtracts or compares, as sum, var, sub and amax do, which have cases": """aminmax nanmean nansum std_mean
        var_mean corrcoef cov diff gradient trapezoid trapz cumulative_trapezoid segment_reduce""",
    "it takes elements where they lie, as gather and pad do, which have cases": """as_strided as_strided_copy
        as_strided_scatter split_with_sizes unfold_copy native_channel_shuffle constant_pad_nd fill""",
    "its results are sums of elements times weights, in test_resample.py and test_embeddings.py": """affine_grid
        grid_sample interpolate upsample upsample_bilinear upsample_nearest embedding_bag conv_tbc""",
    "it pools, as max_pool2d does, which has a case": """adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices
        adaptive_max_pool3d_with_indices max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
        fractional_max_pool2d fractional_max_pool2d_with_indices fractional_max_pool3d fractional_max_pool3d_with_indices""",
    "it returns real numbers as they are, or turns them": """adjoint conj conj_physical resolve_conj resolve_neg real imag
        is_conj is_neg dim_order to_dlpack ger""",
    "it takes complex numbers apart or makes them, in test_complex.py; sgn of real ones is sign": """complex polar sgn
        view_as_real view_as_complex""",
    "its edges are in a test of its own": """igamma igammac gammainc gammaincc ctc_loss angle airy_ai bessel_j0 bessel_j1
        bessel_y0 bessel_y1 modified_bessel_i0 modified_bessel_i1 modified_bessel_k0 modified_bessel_k1
        scaled_modified_bessel_k0 scaled_modified_bessel_k1 spherical_bessel_j0 fake_quantize_per_channel_affine
        fake_quantize_per_tensor_affine""",
    "it is a transform of lines, which test_fft.py goes through": """fft ifft rfft irfft hfft ihfft fft2 ifft2 rfft2 irfft2
        hfft2 ihfft2 fftn ifftn rfftn irfftn hfftn ihfftn fftfreq rfftfreq fftshift ifftshift stft istft""",
    "it is a polynomial": """chebyshev_polynomial_t chebyshev_polynomial_u chebyshev_polynomial_v chebyshev_polynomial_w
        shifted_chebyshev_polynomial_t shifted_chebyshev_polynomial_u shifted_chebyshev_polynomial_v
        shifted_chebyshev_polynomial_w hermite_polynomial_h hermite_polynomial_he laguerre_polynomial_l
        legendre_polynomial_p""",
    "it repeats elements, as expand does, which has a case": "broadcast_tensors meshgrid",
    "its parts have cases": """multi_head_attention_forward scaled_dot_product_attention
        cosine_embedding_loss gaussian_nll_loss multilabel_margin_loss multilabel_soft_margin_loss
        triplet_margin_loss triplet_margin_with_distance_loss geglu swiglu rotary_embedding""",
    "it tells or sets what the process is to do, or returns what it is given": """compile use_deterministic_algorithms
        are_deterministic_algorithms_enabled is_deterministic_algorithms_warn_only_enabled set_deterministic_debug_mode
        get_deterministic_debug_mode set_float32_matmul_precision get_float32_matmul_precision set_warn_always
        is_warn_always_enabled set_num_interop_threads get_num_interop_threads set_flush_denormal
        set_default_device set_default_tensor_type typename
        is_nonzero is_storage is_inference sym_int sym_float sym_max sym_min sym_not sym_ite data_ptr const_data_ptr storage_offset
        clear_autocast_cache get_autocast_cpu_dtype get_autocast_dtype get_autocast_gpu_dtype is_autocast_cache_enabled
        is_autocast_cpu_enabled is_autocast_enabled set_autocast_cache_enabled set_autocast_cpu_dtype summary
        set_autocast_cpu_enabled set_autocast_dtype set_autocast_enabled set_autocast_gpu_dtype
        untyped_storage get_device is_set_to is_pinned is_shared pin_memory as_subclass""",
    "it converts, as to does, which has a case": "cfloat cdouble",
    "it names dimensions, whose elements it leaves as they are": "align_as align_to has_names refine_names rename",
    "it calls a function that has a case, or whose parts have": """grid_sampler grid_sampler_2d grid_sampler_3d
        linear_cross_entropy native_batch_norm native_group_norm native_layer_norm""",
    "it is no function of tensors": """profile verify to_device backward broadcast_shapes get_default_device is_signed
        is_complex
        is_tensor can_cast compiler_options dim element_size explain export find_nan flush
        get_default_dtype get_num_threads get_rng_state initial_seed is_grad_enabled item load manual_seed memory_stats
        ndimension nelement numel numpy promote_types register_hook register_post_accumulate_grad_hook requires_grad_
        reset_peak result_type retain_grad save seed set_default_dtype set_limits set_memory_limit set_num_threads
        set_printoptions set_rng_state shadow_mode size stride tobytes tolist trim""",
}


def test_every_public_function_has_a_case():
    """In-place twins compute with the same rules. What PyTorch lacks has nothing to be compared with."""
    known = special_points.COVERED.union(*(names.split() for names in LEFT_OUT.values()))
    places = (fb, F, fb.special, Tensor)
    public = {n for m in places for n in dir(m) if not n.startswith("_") and not n.endswith("_")}
    functions = {n for n in public if any(_is_function(getattr(m, n, None)) for m in places)}
    lines = (Path(__file__).parent / "pytorch_signatures.txt").read_text().splitlines()
    theirs = {re.split(r"[ (]", line)[1] for line in lines} | set(dir(fb.special))
    left = sorted(functions & theirs - known)
    advice = "Give each a case in special_points.py, then run tools/pytorch_facts.py; or a reason in LEFT_OUT."
    assert not left, f"{left} have no case. {advice}"


def _is_function(x):
    return callable(x) and not isinstance(x, type)
